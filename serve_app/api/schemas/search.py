"""Bodies of searches, and their conversion to a SearchRequest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from serve_app.api.schemas.body import Answer, Body
from serve_app.errors import InvalidInput
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.settings import ApiSettings
from serve_app.store.filters.parse import field_path, parse_filter
from serve_app.types import JsonValue

EXAMPLE: JsonValue = {
    "query": "how often are keys rotated",
    "limit": 5,
    "filter": {"must": [{"key": "team", "match": {"value": "platform"}}]},
    "facets": ["year"],
}


class SearchBody(Body):
    """One search. A field in `filter`, `group_by` or `facets` is a metadata field, `document_id`, `title`, `url` or
    `subject`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    query: str = Field(min_length=1, description="A question or words, in plain language")
    limit: int = Field(10, ge=1, description="Most hits to return")
    offset: int = Field(0, ge=0, description="Hits to skip, for the next page")
    mode: Literal["hybrid", "dense", "sparse"] = Field(
        "hybrid", description="dense: by meaning (embeddings). sparse: by words (BM25). hybrid: both, fused"
    )
    filter: dict[str, Any] | None = Field(None, description="Qdrant's filter JSON: must, should, must_not, …")
    group_by: str | None = Field(None, description="Return only the best passage of each value of this field")
    facets: list[str] | None = Field(
        None, fail_fast=True, description="Fields whose values are counted over all passages that match the filter"
    )
    diversity: float | None = Field(None, ge=0, le=1, description="0: relevance only. 1: variety only")
    profile: str | None = Field(None, description="A search profile of the settings; null for the default one")

    def to_request(self, collection: str, limits: ApiSettings) -> SearchRequest:
        """Raises InvalidInput with a message that begins with the field's name."""
        require_at_most("query", len(self.query), limits.max_query_chars, "characters")
        require_at_most("limit", self.limit, limits.max_limit, "hits")
        require_at_most("offset", self.offset, limits.max_offset, "hits")
        require_at_most("facets", len(self.facets or ()), limits.max_facets, "fields")
        return SearchRequest(
            collection=collection,
            query=self.query,
            limit=self.limit,
            offset=self.offset,
            mode=SearchMode(self.mode),
            filter=self._filter(limits),
            group_by=None if self.group_by is None else path_of("group_by", self.group_by),
            facets=tuple(dict.fromkeys(path_of("facets", name) for name in self.facets or ())),
            diversity=self.diversity,
            profile=self.profile,
        )

    def _filter(self, limits: ApiSettings) -> dict[str, Any] | None:
        if self.filter is None:
            return None
        try:
            parsed = parse_filter(
                self.filter, max_depth=limits.max_filter_depth, max_conditions=limits.max_filter_conditions
            )
        except InvalidInput as error:
            where = str(error)
            raise InvalidInput(where if where.startswith("filter") else f"filter.{where}") from None
        return dict(parsed) or None


def require_at_most(field: str, value: int, most: int, unit: str) -> None:
    if value > most:
        raise InvalidInput(f"{field} is {value} {unit}; at most {most} are allowed")


def path_of(field: str, name: str) -> str:
    try:
        return field_path(name)
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error}") from None


class BatchSearchBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": [EXAMPLE, {"query": "on-call rota"}]}]})

    queries: list[SearchBody] = Field(min_length=1, fail_fast=True)


class HitAnswer(Answer):
    document_id: str
    passage_id: str
    score: float
    title: str
    text: str
    url: str
    metadata: dict[str, Any]
    headings: list[str]


class SearchAnswerBody(Answer):
    """The hits of one search, best first."""

    hits: list[HitAnswer]
    release: str = Field(description="Identifies the model, settings and index that the answer comes from")
    cache: Literal["l1", "l2", "l3", "l4", "miss"] = Field(description="Cache tier that had the answer")
    took_ms: float
    total: int | None = Field(None, description="Passages that match the filter; only with facets")
    facets: dict[str, dict[str, int]] | None = Field(None, description="For each field, passages by value")


class BatchError(Answer):
    """The problem that this query would return as a single search."""

    error: dict[str, Any]


class BatchSearchAnswer(Answer):
    """One result for each query, in order: its answer, or its problem if it failed."""

    results: list[SearchAnswerBody | BatchError]
