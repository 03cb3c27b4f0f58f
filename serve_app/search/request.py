"""What a search asks and answers, free of HTTP and of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.query_types import StoreResult
from serve_app.search.content import decode_result
from serve_app.types import JsonObject


class SearchMode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """filter: canonical JSON from `parse_filter`; group_by and facets: payload paths from
    `field_path`; diversity: 0 to 1; profile: a name in the settings, None for the default one.
    canonical: all that it asks for; the same bytes for equal requests, other bytes for others."""

    collection: str
    query: str
    limit: int = 10
    offset: int = 0
    mode: SearchMode = SearchMode.HYBRID
    filter: JsonObject | None = None
    group_by: str | None = None
    facets: tuple[str, ...] = ()
    diversity: float | None = None
    profile: str | None = None
    canonical: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", repr(self).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """content: what was found, as `content.encode_result` writes it. cache: the tier that had the answer, or "miss".
    is_cacheable: whether it could be kept, so that it is found when it is asked for again."""

    content: bytes
    took_ms: float
    cache: str = "miss"
    is_cacheable: bool = True

    @property
    def found(self) -> StoreResult:
        """For those who do not send it on. Decodes."""
        return decode_result(self.content)[0]

    @property
    def release(self) -> str:
        """What answered. Decodes."""
        return decode_result(self.content)[1]
