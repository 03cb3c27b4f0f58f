"""Methods that rank documents by the scores of their passages, with their sources. Pure functions.

Input: (passages,) scores, NaN if a passage is not a candidate. Output: (documents,) scores, -inf if a document has no
candidate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.bench.ranking.index import Aggregate, Index, Question, Scores, best_passage
from tests.bench.ranking.ways import Normalise, Rank, by_deviation, combined, lists


def ranks_in_document(scores: Scores, index: Index) -> Scores:
    """Rank of each candidate among those of its document: 0 for the best; NaN for other passages."""
    ranks = np.full(len(scores), np.nan)
    found = np.flatnonzero(~np.isnan(scores))
    order = found[np.lexsort((-scores[found], index.document[found]))]
    documents = index.document[order]
    starts = np.flatnonzero(np.r_[True, documents[1:] != documents[:-1]]) if len(order) else np.zeros(0, np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return ranks


def weighted(weight: Callable[[Scores], Scores]) -> Aggregate:
    """The sum of a document's passage scores, each weighted by the passage's rank in the document."""

    def aggregate(scores: Scores, index: Index) -> Scores:
        ranks = ranks_in_document(scores, index)
        found = ~np.isnan(scores)
        total = np.bincount(index.document[found], scores[found] * weight(ranks[found]), len(index.ids))
        return np.where(np.bincount(index.document[found], minlength=len(index.ids)) > 0, total, -np.inf)

    return aggregate


def sum_of_first(k: int) -> Aggregate:
    """The sum of a document's best k candidates (SumP).  Source: Dai and Callan, SIGIR 2019."""
    return weighted(lambda ranks: np.where(ranks < k, 1.0, 0.0))


def mean_of_first(k: int) -> Aggregate:
    """The mean of a document's best k candidates, or of all if it has fewer."""

    def aggregate(scores: Scores, index: Index) -> Scores:
        found = ~np.isnan(scores)
        candidates = np.bincount(index.document[found], minlength=len(index.ids))
        return sum_of_first(k)(scores, index) / np.clip(candidates, 1, k)

    return aggregate


def decaying(share: float) -> Aggregate:
    """Each passage of a document weighs `share` times as much as the previous one."""
    return weighted(lambda ranks: share**ranks)


def mnz(scores: Scores, index: Index) -> Scores:
    """The sum times the number of candidates.  Source: Fox and Shaw, TREC-2 1994, for passages instead of systems."""
    candidates = np.bincount(index.document[~np.isnan(scores)], minlength=len(index.ids))
    return sum_of_first(len(scores))(scores, index) * np.maximum(candidates, 1)


def reciprocal_ranks(k: int) -> Aggregate:
    """The sum of 1 / (k + rank) over a document's passages, with ranks among all passages.  Source: Cormack, Clarke and
    Buettcher, SIGIR 2009."""

    def aggregate(scores: Scores, index: Index) -> Scores:
        order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
        ranks = np.full(len(scores), np.nan)
        ranks[order] = 1 / (k + 1 + np.arange(len(order)))
        return sum_of_first(len(scores))(np.where(np.isnan(scores), np.nan, ranks), index)

    return aggregate


def documents_first(normalise: Normalise = by_deviation) -> Rank:
    """Turns both lists into lists of documents, by best passage, before it fuses them."""

    def rank(index: Index, question: Question) -> Scores:
        fused = combined([normalise(of_documents(scores, index)) for scores in lists(question)], [1.0, 1.0])
        at = np.full(len(index.document), np.nan)
        first = np.unique(index.document, return_index=True)[1]
        at[first] = fused
        return at

    return rank


def of_documents(scores: Scores, index: Index) -> Scores:
    best = best_passage(scores, index)
    return np.where(np.isfinite(best), best, np.nan)
