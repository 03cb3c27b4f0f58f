"""A search as a step of what somebody does: what counts as the same one, and what comes after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from serve_app.search.request import SearchMode, SearchRequest

DEEPEST_PAGE = 5  # this and the pages behind are turned alike


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One tenant's one request: steps are equal if all that they ask for is. canonical: the request's."""

    tenant: str
    canonical: bytes
    request: SearchRequest = field(compare=False)

    @classmethod
    def of(cls, tenant: str, request: SearchRequest) -> SearchStep:
        return cls(tenant, request.canonical, request)

    def next_page(self) -> SearchStep:
        return self.of(self.tenant, replace(self.request, offset=self.request.offset + self.request.limit))

    def first_page(self) -> SearchStep:
        return self.of(self.tenant, replace(self.request, offset=0)) if self.request.offset else self


@dataclass(frozen=True, slots=True)
class PageStep:
    """The page that a request asks for, whatever its question: how far people read is alike for all questions of one
    client, and clients differ in what they ask for besides. number: 0 is the first, DEEPEST_PAGE the last that counts.
    """

    tenant: str
    collection: str
    limit: int
    mode: SearchMode
    facets: tuple[str, ...]
    group_by: str | None
    profile: str | None
    number: int

    @classmethod
    def of(cls, tenant: str, request: SearchRequest) -> PageStep:
        number = min(request.offset // request.limit, DEEPEST_PAGE)
        shape = (request.collection, request.limit, request.mode, request.facets, request.group_by, request.profile)
        return cls(tenant, *shape, number)
