"""What a search asks and answers, free of HTTP and of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.types import FacetCounts, Hit, JsonObject


class SearchMode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """filter: canonical JSON from `store.filters.parse_filter`; group_by and facets: payload paths from
    `store.filters.field_path`; diversity: 0 to 1; profile: a name in the settings, None for the default one."""

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


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """release: what answered. cache: the tier that had the answer, or "miss"."""

    hits: tuple[Hit, ...]
    release: str
    took_ms: float
    facets: Mapping[str, FacetCounts] = field(default_factory=dict)
    total: int | None = None
    cache: str = "miss"
