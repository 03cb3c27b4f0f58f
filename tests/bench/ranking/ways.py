"""Methods that rank the passages of an index for a query, with their sources. Pure functions over (passages,) scores,
NaN if a passage is not a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from serve_app.query_types import Smoothing
from serve_app.store.feedback import smoothed
from serve_app.types import SparseVector, Vector
from tests.bench.ranking.index import Index, Question, Scores

Normalise = Callable[[Scores], Scores]
Rank = Callable[[Index, Question], Scores]

CANDIDATES = 100


def listed(scores: Scores, depth: int) -> Scores:
    """The best `depth` scores; NaN for other passages."""
    kept = np.full(len(scores), np.nan)
    first = np.argsort(-scores, kind="stable")[:depth]
    kept[first] = scores[first]
    return kept


def words_listed(scores: Scores, depth: int) -> Scores:
    """The best `depth` scores of passages that have a term of the query."""
    found = listed(scores, depth)
    return np.where(found > 0, found, np.nan)


def lists(question: Question, candidates: int = CANDIDATES) -> list[Scores]:
    return [listed(question.cosines, candidates), words_listed(question.words, candidates)]


# Normalisations of one list.


def min_max(scores: Scores) -> Scores:
    """Scales the scores to 0..1.  Source: Lee, SIGIR 1997."""
    if np.isnan(scores).all():
        return scores
    low, high = np.nanmin(scores), np.nanmax(scores)
    return (scores - low) / (high - low) if high > low else scores - low + 1.0


def theoretical_min_max(low: float) -> Normalise:
    """Min-max with the smallest possible score as minimum.  Source: Bruch, Gai and Ingber, TOIS 2023."""

    def normalise(scores: Scores) -> Scores:
        if np.isnan(scores).all():
            return scores
        high = float(np.nanmax(scores))
        return (scores - low) / (high - low) if high > low else scores - high + 1.0

    return normalise


def by_deviation(scores: Scores) -> Scores:
    """Maps the mean ± 3 standard deviations to 0 and 1 (DBSF, as in Qdrant)."""
    found = scores[~np.isnan(scores)]
    if len(found) < 2 or found.std(ddof=1) == 0:
        return np.where(np.isnan(scores), np.nan, 0.5)
    mean, deviation = found.mean(), found.std(ddof=1)
    return (scores - (mean - 3 * deviation)) / (6 * deviation)


def by_rank(k: int) -> Normalise:
    """Reciprocal rank fusion.  Source: Cormack, Clarke and Buettcher, SIGIR 2009."""

    def normalise(scores: Scores) -> Scores:
        ranks = np.full(len(scores), np.nan)
        order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
        found = order[: (~np.isnan(scores)).sum()]
        ranks[found] = 1 / (k + np.arange(1, len(found) + 1))
        return ranks

    return normalise


def combined(each: Sequence[Scores], weights: Sequence[float], least: bool = False) -> Scores:
    """The weighted sum. A passage that is missing in a list counts as 0 or, with `least`, as the lowest score there."""
    total = np.zeros(len(each[0]))
    present = np.zeros(len(total), bool)
    for scores, weight in zip(each, weights, strict=True):
        missing = np.nanmin(scores) if least and not np.isnan(scores).all() else 0.0
        total += weight * np.where(np.isnan(scores), missing, scores)
        present |= ~np.isnan(scores)
    return np.where(present, total, np.nan)


def fused(
    dense: Normalise, words: Normalise, dense_weight: float = 0.5, *, least: bool = False, candidates: int = CANDIDATES
) -> Rank:
    def rank(index: Index, question: Question) -> Scores:
        cosines, counted = lists(question, candidates)
        return combined([dense(cosines), words(counted)], [dense_weight, 1 - dense_weight], least)

    return rank


def dbsf(index: Index, question: Question) -> Scores:
    """The fusion of the default profile."""
    return combined([by_deviation(scores) for scores in lists(question)], [1.0, 1.0])


# Feedback: a new query from the first results.


def best(scores: Scores, count: int) -> list[int]:
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")[:count]
    return [int(row) for row in order if not np.isnan(scores[row])]


def dense_feedback(index: Index, question: Question, rows: Sequence[int], share: float) -> Vector:
    """The query moved by `share` towards the mean of the passages, at unit length.
    Source: Rocchio, 1971; Li et al., Pseudo relevance feedback with dense retrievers, TOIS 2023 (arXiv 2108.11044)."""
    if not rows:
        return question.dense
    moved = (1 - share) * question.dense + share * index.dense[rows].mean(axis=0)
    return np.asarray(moved / np.linalg.norm(moved), np.float32)


def word_feedback(index: Index, question: Question, rows: Sequence[int], share: float, terms: int) -> SparseVector:
    """The query's terms, and the `terms` heaviest terms of the passages' mean BM25 vector with `share` of the weight.
    Source: Rocchio, 1971, over BM25 weights; interpolated as RM3 is (Abdul-Jaleel et al., TREC 2004)."""
    if not rows or not question.sparse.indices.size:
        return question.sparse
    weights: dict[int, float] = {}
    for row in rows:
        vector = index.sparse[row]
        for term, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            weights[term] = weights.get(term, 0.0) + value
    found = np.array(list(weights), np.int64)
    heavy = np.array(list(weights.values())) * index.postings.idf_of(found)
    kept = np.argsort(-heavy, kind="stable")[:terms]
    if not heavy[kept].sum() > 0:
        return question.sparse
    expanded = {int(found[at]): share * heavy[at] / heavy[kept].sum() for at in kept}
    for term, value in zip(question.sparse.indices.tolist(), question.sparse.values.tolist(), strict=True):
        expanded[term] = expanded.get(term, 0.0) + (1 - share) * value / question.sparse.values.sum()
    return SparseVector(np.array(list(expanded), np.uint32), np.array(list(expanded.values()), np.float32))


def again(
    first: Rank,
    *,
    passages: int,
    dense_share: float = 0.0,
    word_share: float = 0.0,
    terms: int = 20,
    candidates: int = CANDIDATES,
) -> Rank:
    """A second search whose query is adapted to the best passages of the first one."""

    def rank(index: Index, question: Question) -> Scores:
        rows = best(first(index, question), passages)
        cosines, counted = question.cosines, question.words
        if dense_share:
            cosines = (index.dense @ dense_feedback(index, question, rows, dense_share)).astype(np.float64)
        if word_share:
            counted = index.postings.scores(word_feedback(index, question, rows, word_share, terms))
        both = listed(cosines, candidates), words_listed(counted, candidates)
        return combined([by_deviation(scores) for scores in both], [1.0, 1.0])

    return rank


def smooth(first: Rank, *, candidates: int, neighbours: int, share: float) -> Rank:
    """Smooths scores with serve_app.store.feedback."""

    def rank(index: Index, question: Question) -> Scores:
        scores = first(index, question).copy()
        rows = best(scores, candidates)
        order = smoothed(scores[rows].tolist(), list(index.dense[rows]), Smoothing(candidates, neighbours, share))
        for place, score in order:
            scores[rows[place]] = score
        return scores

    return rank
