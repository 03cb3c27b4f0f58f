"""How a search is done: named profiles."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from serve_app.query_types import Feedback, Fusion, FusionMethod, Smoothing
from serve_app.settings.section import Section


class SearchProfile(Section):
    """How a search is done; requests name one."""

    fusion: FusionMethod = FusionMethod.DBSF
    rrf_k: PositiveInt = 60
    prefetch: PositiveInt = 100  # candidates from each retriever before fusion
    hnsw_ef: PositiveInt | None = None  # candidates that the graph's search keeps; None = hnsw_ef_construct
    exact: bool = False  # compare with every vector, without graph and codes
    rescore: bool = True  # order what a quantised collection found by its float32 vectors
    oversampling: float = Field(2.0, ge=1, le=100)  # candidates taken for each one wanted, to be rescored
    feedback_passages: int = Field(0, ge=0, le=100)  # first hits that the query moves towards, for a second search
    feedback_share: float = Field(0.25, ge=0, le=1)  # of the mean of their vectors in the query
    smoothing_candidates: int = Field(0, ge=0, le=1_000)  # first hits whose scores similar ones share; 0 = none
    smoothing_neighbours: PositiveInt = 5  # nearest candidates
    smoothing_share: float = Field(0.3, ge=0, le=1)  # of their mean in a score
    rerank_model: str | None = None  # a cross-encoder that orders the first hits: folder, or name on the hub
    rerank_revision: str | None = None  # a hub revision; None = the newest that is at hand
    rerank_candidates: int = Field(50, ge=1, le=200)  # first hits that it orders; behind them the order stays

    def to_fusion(self) -> Fusion:
        return Fusion(self.fusion, self.rrf_k)

    def to_feedback(self) -> Feedback | None:
        return Feedback(self.feedback_passages, self.feedback_share) if self.feedback_passages else None

    def to_smoothing(self) -> Smoothing | None:
        neighbours, share = self.smoothing_neighbours, self.smoothing_share
        return Smoothing(self.smoothing_candidates, neighbours, share) if self.smoothing_candidates else None


QUALITY = SearchProfile(feedback_passages=3, smoothing_candidates=50)  # why: tests/bench/NOTES.md


class SearchSettings(Section):
    default_profile: str = "default"
    profiles: dict[str, SearchProfile] = Field(
        {}
    )  # beside the built-in "default" and "quality", or whole in their place

    @model_validator(mode="after")
    def default_exists(self) -> Self:
        self.profiles.setdefault("default", SearchProfile())
        self.profiles.setdefault("quality", QUALITY)
        if self.default_profile not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise ValueError(f"default_profile {self.default_profile!r} is none of the profiles: {known}")
        return self
