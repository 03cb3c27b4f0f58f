"""The ranking methods to compare, in families. Parameters are chosen within a family."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.ranking.documents import decaying, documents_first, mean_of_first, mnz, reciprocal_ranks, sum_of_first
from tests.bench.ranking.index import Aggregate, best_passage
from tests.bench.ranking.ways import (
    Rank,
    again,
    by_deviation,
    by_rank,
    dbsf,
    fused,
    lists,
    min_max,
    smooth,
    theoretical_min_max,
)

WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7)  # weight of the dense list
SHARES = (0.2, 0.3, 0.5)


@dataclass(frozen=True, eq=False)
class Way:
    family: str
    name: str
    rank: Rank
    aggregate: Aggregate = best_passage


DEFAULT = Way("DBSF", "DBSF, candidates 100 (default)", dbsf)
FEEDBACK = again(dbsf, passages=3, dense_share=0.25)
QUALITY = Way("quality", "profile quality", smooth(FEEDBACK, candidates=50, neighbours=5, share=0.3))

WAYS = (
    DEFAULT,
    Way("one list", "dense", lambda _, question: lists(question)[0]),
    Way("one list", "words", lambda _, question: lists(question)[1]),
    *(Way("RRF", f"RRF k {k}", fused(by_rank(k), by_rank(k))) for k in (1, 5, 10, 20, 60)),
    *(Way("min-max", f"min-max, dense {w}", fused(min_max, min_max, w)) for w in WEIGHTS),
    *(Way("DBSF, weighted", f"DBSF, dense {w}", fused(by_deviation, by_deviation, w)) for w in WEIGHTS),
    *(
        Way("DBSF, missing = least", f"DBSF, least, dense {w}", fused(by_deviation, by_deviation, w, least=True))
        for w in WEIGHTS
    ),
    *(
        Way(
            "theoretical min-max",
            f"from {low:g}, dense {w}",
            fused(theoretical_min_max(low), theoretical_min_max(0), w),
        )
        for low in (-1.0, 0.0)
        for w in (0.5, 0.6, 0.7, 0.8)
    ),
    *(
        Way("candidates", f"DBSF, candidates {depth}", fused(by_deviation, by_deviation, candidates=depth))
        for depth in (30, 50, 200, 500, 1_000)
    ),
    *(
        Way("dense feedback", f"{k} passages, {share} of the vector", again(dbsf, passages=k, dense_share=share))
        for k in (3, 5, 10)
        for share in SHARES
    ),
    *(
        Way("word feedback", f"{k} passages, 20 words, {share}", again(dbsf, passages=k, word_share=share))
        for k in (3, 5, 10)
        for share in SHARES
    ),
    *(
        Way("both feedbacks", f"{k} passages, {share}", again(dbsf, passages=k, dense_share=share, word_share=share))
        for k in (3, 5, 10)
        for share in SHARES
    ),
    *(
        Way("smoothing", f"{c} candidates, {n} nearest, {s}", smooth(dbsf, candidates=c, neighbours=n, share=s))
        for c in (50, 100)
        for n in (5, 10)
        for s in (0.2, 0.3, 0.4)
    ),
    *(
        Way(
            "dense feedback, smoothing", f"{c}, {n} nearest, {s}", smooth(FEEDBACK, candidates=c, neighbours=n, share=s)
        )
        for c in (50, 100)
        for n in (5, 10)
        for s in (0.2, 0.3, 0.4)
    ),
    QUALITY,
)

# The first one is the baseline of the others.
AGGREGATES: tuple[tuple[str, str, Aggregate], ...] = (
    ("best passage", "best passage", best_passage),
    *(("sum of the first", f"first {k} summed", sum_of_first(k)) for k in (2, 3, 5, 10, 1_000)),
    *(("mean of the first", f"mean of {k}", mean_of_first(k)) for k in (2, 3, 5)),
    *(("decaying", f"share {share}", decaying(share)) for share in (0.05, 0.1, 0.2, 0.3, 0.5)),
    ("MNZ", "sum × number", mnz),
    *(("reciprocal ranks", f"k {k}", reciprocal_ranks(k)) for k in (0, 10, 60)),
)
DOCUMENT_WAYS = (
    *(Way(family, name, dbsf, aggregate) for family, name, aggregate in AGGREGATES),
    Way("documents, then fusion", "documents, then fusion", documents_first()),
)
QUALITY_DOCUMENT_WAYS = tuple(Way(family, name, QUALITY.rank, aggregate) for family, name, aggregate in AGGREGATES)
