"""Feedback, which moves the query towards its first hits, and smoothing, which draws scores towards those of similar
hits. Pure.

Both work on dense vectors, so a query without one gets neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serve_app.query_types import Smoothing, StoreQuery
from serve_app.types import Vector


def is_plain(query: StoreQuery) -> bool:
    """Whether the store's hits are the final result: without groups, feedback or smoothing."""
    return query.group_by is None and not wants_feedback(query) and smoothing_of(query) is None


def wants_feedback(query: StoreQuery) -> bool:
    return query.feedback is not None and query.dense is not None


def smoothing_of(query: StoreQuery) -> Smoothing | None:
    """The smoothing to apply. None if diversity reorders the hits anyway."""
    return query.smoothing if query.dense is not None and query.diversity is None else None


def depth(query: StoreQuery, candidates: int) -> int:
    """How many hits to request if at least `candidates` are needed. All pages within `query.candidates` request the
    same number, because approximate search can order hits differently for another number."""
    if query.diversity is not None:
        return candidates
    smoothing = smoothing_of(query)
    return max(candidates, query.candidates, smoothing.candidates if smoothing else 0)


def with_feedback(query: StoreQuery, vectors: Sequence[Vector]) -> StoreQuery:
    """The query moved by `feedback.share` towards the mean of `vectors`, those of its first passages. The result has
    unit length and no feedback, so it is applied once.
    Source: Rocchio, 1971; for dense retrieval Li et al., TOIS 2023 (arXiv 2108.11044)."""
    if query.feedback is None or query.dense is None or not vectors:
        return replace(query, feedback=None)
    share = query.feedback.share
    moved = (1 - share) * query.dense + share * np.mean(vectors, axis=0)
    length = float(np.linalg.norm(moved))
    return replace(query, feedback=None, dense=np.asarray(moved / length, np.float32) if length > 0 else query.dense)


def smoothed(
    scores: Sequence[float], vectors: Sequence[Vector | None], smoothing: Smoothing
) -> list[tuple[int, float]]:
    """(place, new score) of every hit, best first. Hits with equal scores keep their order.

    scores: best first. vectors: of the first `smoothing.candidates` hits, each (dim,) of unit length; None if the point
    was deleted. The new score of a candidate is (1 - share) · own + share · mean, where the mean is over the scores of
    its `neighbours` nearest candidates, weighted by cosine. No new score is below the lowest of the candidates, so the
    hits after them keep their places.
    Source: one step of Diaz, Regularizing ad hoc retrieval scores, CIKM 2005.
    """
    result = np.array(scores, np.float64)
    places = [place for place, vector in enumerate(vectors[: smoothing.candidates]) if vector is not None]
    if len(places) > 1:
        own = result[places]
        matrix = np.stack([vector for place in places if (vector := vectors[place]) is not None])
        cosines = (matrix @ matrix.T).astype(np.float64).clip(0)
        np.fill_diagonal(cosines, -1)
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : min(smoothing.neighbours, len(places) - 1)]
        weights = np.take_along_axis(cosines, nearest, axis=1)
        total = weights.sum(axis=1)
        around = (weights * own[nearest]).sum(axis=1) / np.where(total > 0, total, 1)
        result[places] = np.where(total > 0, (1 - smoothing.share) * own + smoothing.share * around, own)
    return [(int(place), float(result[place])) for place in np.argsort(-result, kind="stable")]
