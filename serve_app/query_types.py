"""The data types of a search in a store: queries and results (DESIGN §2). All are frozen, as in types."""

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
    """How the rankings of several retrievers are combined into one. Only RRF uses `rrf_k`."""

    method: FusionMethod = FusionMethod.DBSF
    rrf_k: int = 60


@dataclass(frozen=True, slots=True)
class Feedback:
    """Pseudo-relevance feedback (see store.feedback). The dense vector is moved by `share`, 0 to 1, towards the mean of
    the vectors of the first `passages` hits, and the search is repeated."""

    passages: int
    share: float


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Score smoothing (see store.feedback). Each of the first `candidates` hits takes the fraction `share`, 0 to 1, of
    its score from the mean score of its `neighbours` nearest hits among them."""

    candidates: int
    neighbours: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class StoreQuery:
    """One search of one collection: dense, sparse, or both (fused).

    filter: Qdrant's filter JSON, already validated by `store.filters.parse`. candidates: hits taken from each
    retriever before fusion, at least offset + limit. diversity: maximal marginal relevance over the dense vectors, from
    0 (relevance only) to 1 (variety only); None switches it off. group_by: a field; only the best passage of each value
    is returned. facets: fields whose values are counted over all passages that match the filter.

    The dense search has four more options. hnsw_ef: candidates that the graph search keeps; None means as many as when
    the graph was built. exact: compare with every float32 vector. The other two apply to a quantised collection unless
    exact is set. oversampling: candidates found by quantised vectors for each result. rescore: order and score these
    candidates by their float32 vectors.

    feedback and smoothing apply only with a dense vector. Diversity switches smoothing off, because it reorders the
    hits itself.
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
    """A passage that was found. Higher scores are better. Scores of different modes cannot be compared."""

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
    """total: passages that match the filter, counted only if the query has facets. index: the one that was searched."""

    hits: tuple[Hit, ...]
    facets: Mapping[str, FacetCounts] = field(default_factory=dict)
    total: int | None = None
    index: str = FIRST_INDEX
