"""Settings of searches: named profiles."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from serve_app.query_types import Feedback, Fusion, FusionMethod, Smoothing
from serve_app.settings.section import Section


class SearchProfile(Section):
    """How a search is done. A request names one with `"profile"`."""

    fusion: FusionMethod = FusionMethod.DBSF
    """How hybrid search merges the dense and the sparse list: `dbsf` (by the distribution of their scores) or `rrf` (by
    rank)."""
    rrf_k: PositiveInt = 60
    """Constant k of reciprocal rank fusion: a hit scores 1 / (k + rank) in each list."""
    candidates: PositiveInt = 100
    """Candidates that each retriever (dense and sparse) hands to fusion."""
    hnsw_ef: PositiveInt | None = None
    """Candidates that the HNSW graph search keeps. More candidates find more of the true neighbours but take longer.
    Unset: `STORE__HNSW_EF_CONSTRUCT`."""
    exact: bool = False
    """Compare the query with every vector instead of searching the graph."""
    rescore: bool = True
    """Rescore candidates from a quantised collection with their float32 vectors."""
    oversampling: float = Field(2.0, ge=1, le=100)
    """Candidates taken from the quantised vectors for each requested hit, before rescoring."""
    feedback_passages: int = Field(0, ge=0, le=100)
    """Number of first hits that move the query for a second search (Rocchio feedback). 0: no second search."""
    feedback_share: float = Field(0.25, ge=0, le=1)
    """Weight of the mean vector of those hits in the moved query."""
    smoothing_candidates: int = Field(0, ge=0, le=1_000)
    """Number of first hits whose scores are smoothed with those of similar hits. 0: no smoothing."""
    smoothing_neighbours: PositiveInt = 5
    """Number of most similar hits that a score is smoothed with."""
    smoothing_share: float = Field(0.3, ge=0, le=1)
    """Weight of the neighbours' mean score in a smoothed score."""
    rerank_model: str | None = None
    """Cross-encoder that reranks the first hits: a folder, or a name on the Hugging Face hub. Unset: no reranking."""
    rerank_revision: str | None = None
    """Revision of the cross-encoder on the hub. Unset: the newest that is installed or can be downloaded."""
    rerank_candidates: int = Field(50, ge=1, le=200)
    """Number of first hits that the cross-encoder reranks. Later hits keep their order."""

    def to_fusion(self) -> Fusion:
        return Fusion(self.fusion, self.rrf_k)

    def to_feedback(self) -> Feedback | None:
        return Feedback(self.feedback_passages, self.feedback_share) if self.feedback_passages else None

    def to_smoothing(self) -> Smoothing | None:
        neighbours, share = self.smoothing_neighbours, self.smoothing_share
        return Smoothing(self.smoothing_candidates, neighbours, share) if self.smoothing_candidates else None


QUALITY = SearchProfile(feedback_passages=3, smoothing_candidates=50)  # why: docs/ranking.md


class SearchSettings(Section):
    """Named search profiles."""

    default_profile: str = "default"
    """Profile of searches that do not name one."""
    profiles: dict[str, SearchProfile] = Field({})
    """More profiles, `AIDOCS_SEARCH__PROFILES__<NAME>__<FIELD>`. One named `default` or `quality` replaces the built-in
    profile of that name."""

    @model_validator(mode="after")
    def default_exists(self) -> Self:
        self.profiles.setdefault("default", SearchProfile())
        self.profiles.setdefault("quality", QUALITY)
        if self.default_profile not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise ValueError(f"default_profile {self.default_profile!r} is not one of the profiles: {known}")
        return self
