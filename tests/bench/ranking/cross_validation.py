"""Tests whether one ranking method is better than another, with parameters chosen on other queries than those that
score it. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

FOLDS, SEEDS, SHUFFLES = 5, 20, 10_000


def held_out(scores: Scores, folds: int = FOLDS, seeds: Sequence[int] = range(SEEDS)) -> tuple[Scores, dict[int, int]]:
    """scores: (methods, queries). Each fold of each seed's split is scored by the method that is best on the others.
    Returns (queries,) held-out scores, averaged over seeds, and how often each method was chosen.
    Source: Stone, Cross-validatory choice, JRSS B 1974."""
    queries = scores.shape[1]
    total = np.zeros(queries)
    chosen: dict[int, int] = {}
    for seed in seeds:
        for fold in np.array_split(np.random.default_rng(seed).permutation(queries), folds):
            training = np.setdiff1d(np.arange(queries), fold)
            best = int(np.argmax(scores[:, training].mean(axis=1)))
            chosen[best] = chosen.get(best, 0) + 1
            total[fold] += scores[best, fold]
    return total / len(seeds), chosen


def randomisation_p(one: Scores, other: Scores, shuffles: int = SHUFFLES, seed: int = 0) -> float:
    """Two-sided p of the mean difference of paired scores: how often random swaps within the pairs give a difference at
    least as large. Never 0.  Source: Smucker, Allan and Carterette, CIKM 2007."""
    difference = one - other
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(shuffles, len(difference)))
    as_great = np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12
    return float((as_great.sum() + 1) / (shuffles + 1))
