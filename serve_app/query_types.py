"""The nouns of a search of a store: what is asked and what comes back (DESIGN §2). Plain frozen data, as in types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.types import FIRST_INDEX, JsonObject, Scope, SparseVector, Vector, VectorSpace


class FusionMethod(StrEnum):
    RRF = "rrf"
    DBSF = "dbsf"


@dataclass(frozen=True, slots=True)
class Fusion:
    """How rankings of several retrievers become one. `rrf_k` is used by RRF only."""

    method: FusionMethod = FusionMethod.DBSF
    rrf_k: int = 60


@dataclass(frozen=True, slots=True)
class Feedback:
    """Pseudo-relevance feedback (see store.feedback): the dense vector moves by `share`, 0 to 1, towards the mean of
    the first `passages` vectors, and the search is repeated."""

    passages: int
    share: float


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Each of the first `candidates` gets `share`, 0 to 1, of its score from the mean of its `neighbours` nearest among
    them (see store.feedback)."""

    candidates: int
    neighbours: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class StoreQuery:
    """One search of one collection. dense only, sparse only, or both (fused).

    filter: Qdrant's filter JSON, already validated by `store.filters.parse`. candidates: hits that each retriever
    hands to fusion (at least offset + limit). diversity: 0 (relevance only) to 1 (variety
    only), maximal marginal relevance over the dense vectors; None for none. group_by: a field; the best passage of
    each value is kept. facets: fields whose values are counted over all passages that match the filter.

    Of the dense search, hnsw_ef: candidates that the graph's search keeps; None for as many as when it was built.
    exact: compares with every float32 vector. Unless exact, where the collection is quantised, oversampling:
    candidates that the codes find for each one wanted; rescore: these are ordered and scored by float32 vectors.

    feedback and smoothing: only with a dense vector; no smoothing with diversity, which reorders by itself.
    """

    scope: Scope
    space: VectorSpace
    dense: Vector | None = None
    sparse: SparseVector | None = None
    limit: int = 10
    offset: int = 0
    filter: JsonObject | None = None
    fusion: Fusion = Fusion()
    candidates: int = 100
    hnsw_ef: int | None = None
    exact: bool = False
    rescore: bool = True
    oversampling: float = 1.0
    group_by: str | None = None
    facets: tuple[str, ...] = ()
    diversity: float | None = None
    feedback: Feedback | None = None
    smoothing: Smoothing | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found. Higher scores are better; scores of different modes are not comparable."""

    document_id: str
    passage_id: str
    score: float
    title: str
    text: str
    url: str
    metadata: JsonObject
    headings: tuple[str, ...] = ()


FacetCounts = Mapping[str, int]  # value → passages, most frequent first


@dataclass(frozen=True, slots=True)
class StoreResult:
    """total: passages that match the filter, counted only where facets are asked for. index: that all of it is from."""

    hits: tuple[Hit, ...]
    facets: Mapping[str, FacetCounts] = field(default_factory=dict)
    total: int | None = None
    index: str = FIRST_INDEX
