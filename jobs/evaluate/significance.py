"""Whether two ways to search differ by more than chance would: paired over the queries of a judged set.

The queries are a sample of those that will be asked. The bootstrap asks how far the mean difference would move with
another sample; the randomisation test asks how often a difference as large would come about if, for each query, it
were chance which of the two had which value. Neither assumes a distribution. Both are right for one measure that was
chosen beforehand: of twenty comparisons without any difference one has p below 0.05.

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
RESAMPLES = 9_999  # with the sample itself 10,000, so that no p is below 0.0001
SEED = 0
DECIMALS = 9  # to which values count: sums of the same terms in another order differ by less
BATCH_VALUES = 4_000_000  # drawn at once: what bounds the memory


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over queries, the candidate's minus the baseline's, and how sure that is.

    interval: of the mean difference, at CONFIDENCE; None for one query, which says nothing of how much queries differ.
    p: two-sided, 0..1. wins: queries where the candidate is better; losses, ties: worse, equal.
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
    """baseline, candidate: (n,) a measure's value for the same queries in the same order. Same seed, same answer.
    Raises ValueError if they are not of one length, or are empty."""
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
    """(n,) the candidate's minus the baseline's; exactly 0 where only rounding differs. Raises as `compare`."""
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"values of the same queries are compared, not {len(baseline)} and {len(candidate)}")
    return (np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)).round(DECIMALS)


def bootstrap_interval(
    gains: Values, *, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The percentile interval of the mean of n differences, (n,): the middle part of the means of samples of n drawn
    from them with replacement. None if n < 2."""
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
    """How likely n differences, (n,), with random signs have a mean as far from 0 as theirs. Exact where there are no
    more than `resamples` ways to set the signs, else estimated from so many draws; never 0."""
    from scipy import stats

    changed = gains[gains != 0]  # 0 is 0 with either sign
    if len(changed) < 2:  # which SciPy refuses: one is as far from 0 with either sign
        return 1.0
    tested = stats.permutation_test(
        (changed,),
        lambda values, axis: values.sum(axis=axis).round(DECIMALS),
        permutation_type="samples",  # of one sample: its signs
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_VALUES // len(changed)),
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)
