"""Tests whether two search profiles differ by more than chance, paired over the queries of a judged dataset.

The queries are a sample of future queries. The bootstrap estimates how much the mean difference would vary with other
samples. The randomisation test estimates how often a difference as large would occur if the two values of each query
were swapped at random. Neither assumes a distribution. Both are valid for a single measure that was chosen beforehand:
among twenty comparisons without any real difference, one has a p below 0.05 on average.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; Smucker, Allan and Carterette, CIKM 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9_999  # 10,000 with the sample itself, so p is never below 0.0001
SEED = 0
DECIMALS = 9  # for rounding: sums of the same terms in another order differ by less
BATCH_VALUES = 4_000_000  # drawn at once; bounds the memory


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over queries, their difference (candidate minus baseline) and its significance.

    interval: confidence interval of the mean difference at CONFIDENCE; None for a single query.
    p: two-sided, 0..1. wins, losses, ties: number of queries for which the candidate is better, worse, equal.
    """

    baseline: float
    candidate: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    wins: int
    losses: int
    ties: int


def compare(baseline: Sequence[float], candidate: Sequence[float], *, seed: int = SEED) -> Comparison:
    """baseline, candidate: (n,) values of a measure for the same queries in the same order. The result is the same for
    the same seed. Raises ValueError if the lengths differ or are 0."""
    gains = differences(baseline, candidate)
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return Comparison(
        baseline=fmean(baseline),
        candidate=fmean(candidate),
        difference=float(gains.mean()),
        interval=bootstrap_interval(gains, seed=seed),
        p=randomisation_p(gains, seed=seed),
        wins=wins,
        losses=losses,
        ties=len(gains) - wins - losses,
    )


def differences(baseline: Sequence[float], candidate: Sequence[float]) -> Values:
    """(n,) candidate minus baseline; exactly 0 where they differ by rounding only. Raises what `compare` raises."""
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"both need values of the same queries, not {len(baseline)} and {len(candidate)} values")
    return (np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)).round(DECIMALS)


def bootstrap_interval(
    gains: Values, *, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of the mean of the differences, (n,), from resamples drawn with replacement.
    None if n < 2."""
    from scipy import stats  # slow to import, and only comparisons need it

    if len(gains) < 2:
        return None
    # BCa, the default, corrects for skew, but is undefined where all differences are equal
    found = stats.bootstrap(
        (gains,),
        np.mean,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, BATCH_VALUES // len(gains)),
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def randomisation_p(gains: Values, *, seed: int, resamples: int = RESAMPLES) -> float:
    """The probability that the differences, (n,), with random signs have a mean at least as far from 0 as theirs. Exact
    if there are at most `resamples` combinations of signs, else estimated from `resamples` draws. Never 0."""
    from scipy import stats

    changed = gains[gains != 0]  # the sign of 0 does not matter
    if len(changed) < 2:  # SciPy refuses; a single value is as far from 0 with either sign
        return 1.0
    tested = stats.permutation_test(
        (changed,),
        lambda values, axis: values.sum(axis=axis).round(DECIMALS),
        permutation_type="samples",  # with one sample, SciPy permutes the signs
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_VALUES // len(changed)),
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)
