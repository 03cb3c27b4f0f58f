"""Ranking measures of trec_eval and BEIR, as pure functions.

A ranking is a sequence of document ids, best first, without duplicates. Judgements map document ids to grades. A
document without a grade, or with a grade of 0 or below, is not relevant. Every measure is 0..1, higher is better; it is
0 if no document is relevant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

Ranking = Sequence[str]
Judgements = Mapping[str, int]


def ndcg_at_k(ranking: Ranking, judgements: Judgements, k: int) -> float:
    """Normalised discounted cumulative gain of the first k: the sum of grade / log2(rank + 1), rank from 1, divided by
    the sum for the best possible ranking. The gain is linear in the grade, as in trec_eval's ndcg_cut (and so in BEIR),
    not 2^grade - 1.  Source: Järvelin and Kekäläinen, TOIS 2002."""
    best = discounted_gain(sorted(judgements.values(), reverse=True)[:k])
    return discounted_gain(judgements.get(document, 0) for document in ranking[:k]) / best if best else 0.0


def discounted_gain(grades: Iterable[int]) -> float:
    return sum(max(grade, 0) / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def recall_at_k(ranking: Ranking, judgements: Judgements, k: int) -> float:
    """The fraction of all relevant documents that are among the first k."""
    relevant = {document for document, grade in judgements.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def mrr_at_k(ranking: Ranking, judgements: Judgements, k: int) -> float:
    """The reciprocal rank of the first relevant document; 0 if none is among the first k."""
    ranks = (rank for rank, document in enumerate(ranking[:k], start=1) if judgements.get(document, 0) > 0)
    return next((1 / rank for rank in ranks), 0.0)


MEASURES = {"ndcg@10": (ndcg_at_k, 10), "recall@100": (recall_at_k, 100), "mrr@10": (mrr_at_k, 10)}


def measure(ranking: Ranking, judgements: Judgements) -> dict[str, float]:
    """Every measure of `MEASURES`, for one query."""
    return {name: at_k(ranking, judgements, k) for name, (at_k, k) in MEASURES.items()}


def mean_measures(per_query: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean over all queries. Raises ValueError if there are none."""
    rows = list(per_query)
    if not rows:
        raise ValueError("there is no query to average over")
    return {name: fmean(row[name] for row in rows) for name in MEASURES}
