"""What the first hits say about each other: feedback to the query, and scores drawn to those of similar passages. Pure.

Both are of the dense vectors, so neither is for a query without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serve_app.query_types import Smoothing, StoreQuery
from serve_app.types import Vector


def is_plain(query: StoreQuery) -> bool:
    """What a store finds for it is the answer: no groups, no second search, no new order."""
    return query.group_by is None and not wants_feedback(query) and smoothing_of(query) is None


def wants_feedback(query: StoreQuery) -> bool:
    return query.feedback is not None and query.dense is not None


def smoothing_of(query: StoreQuery) -> Smoothing | None:
    """None if diversity reorders the hits anyway."""
    return query.smoothing if query.dense is not None and query.diversity is None else None


def depth(query: StoreQuery, candidates: int) -> int:
    """How many hits to take when `candidates` are needed: the same number for every page within `query.candidates`,
    because the first hits of a graph or of quantised codes depend on how many are requested."""
    if query.diversity is not None:
        return candidates
    smoothing = smoothing_of(query)
    return max(candidates, query.candidates, smoothing.candidates if smoothing else 0)


def with_feedback(query: StoreQuery, vectors: Sequence[Vector]) -> StoreQuery:
    """The query moved by `feedback.share` towards the mean of the vectors of its first passages, of unit length, and no
    feedback left to do.
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
    """Places and new scores of all, best first; equal ones in the order they came in.

    scores: best first. vectors: (dim,) of unit length, of the first `smoothing.candidates`; None for one that has none
    any more. The new score is (1 - share) · own + share · the mean of its `neighbours` nearest candidates' scores,
    weighted by cosine. That is never below the least of the candidates', so what comes after them stays there.
    Source: Diaz, Regularizing ad hoc retrieval scores, CIKM 2005: one step of it.
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
