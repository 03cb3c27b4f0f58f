from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jobs.evaluate.significance import DECIMALS, RESAMPLES, Comparison, bootstrap_interval, compare, randomisation_p

values = st.integers(0, 10).map(lambda tenths: tenths / 10)
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=12)
some_examples = settings(max_examples=30)  # each of thousands of resamples


def split(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [before for before, _ in rows], [after for _, after in rows]


def p_by_enumeration(tenths: list[int]) -> float:
    """In whole tenths, so that equal sums are equal."""
    flips = [sum(s * d for s, d in zip(signs, tenths, strict=True)) for signs in product((1, -1), repeat=len(tenths))]
    return sum(abs(total) >= abs(sum(tenths)) for total in flips) / len(flips)


@given(st.lists(st.integers(-10, 10), min_size=1, max_size=11))
@some_examples
def test_p_of_few_queries_is_exact(tenths: list[int]) -> None:
    assert randomisation_p(np.array(tenths) / 10, seed=1) == pytest.approx(p_by_enumeration(tenths))


def test_p_by_hand() -> None:
    # of the 16 ways to set four signs only + + + + and - - - - are as far from 0
    assert randomisation_p(np.array([0.1, 0.2, 0.1, 0.4]), seed=1) == 2 / 16


def test_a_sum_that_is_0_but_for_rounding_is_the_least_extreme() -> None:
    differences = np.array([0.4, 0.2, -0.2, -0.4])
    assert differences.sum() != 0, "else there is nothing to round"
    assert randomisation_p(differences, seed=1) == 1


def test_p_of_many_queries_is_close_to_enumeration() -> None:
    rng = np.random.default_rng(3)
    tenths = rng.integers(-4, 7, size=16).tolist()
    assert 2 ** np.count_nonzero(tenths) > RESAMPLES, "else it is not drawn"
    exact = p_by_enumeration(tenths)
    error = 4 * math.sqrt(exact * (1 - exact) / RESAMPLES)
    assert randomisation_p(np.array(tenths) / 10, seed=3) == pytest.approx(exact, abs=error + 1 / RESAMPLES)


@given(st.lists(st.integers(-10, 10), min_size=2, max_size=5))
@some_examples
def test_interval_ends_are_quantiles_of_all_resamples(tenths: list[int]) -> None:
    """Of all n to the n; a quantile is drawn, so that its place is uncertain by some thousandths."""
    found = bootstrap_interval(np.array(tenths) / 10, seed=1)
    assert found is not None
    means = np.array([sum(some) for some in product(tenths, repeat=len(tenths))]) / (10 * len(tenths))
    low, high = found
    for end, at in ((low, 0.025), (high, 0.975)):
        assert (means < end - 1e-6).mean() - 0.008 <= at <= (means <= end + 1e-6).mean() + 0.008


def test_intervals_have_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    found = [bootstrap_interval(rng.normal(0.1, 1, size=60), seed=5, resamples=999) for _ in range(300)]
    covered = sum(low <= 0.1 <= high for low, high in filter(None, found))
    assert stats.binomtest(covered, 300, 0.95).pvalue > 0.001, covered


def test_agrees_with_the_t_test_where_that_is_right() -> None:
    """Smucker, Allan and Carterette found so, for the numbers of queries that judged sets have."""
    rng = np.random.default_rng(6)
    baseline, candidate = rng.normal(0.5, 0.1, size=200), rng.normal(0.515, 0.1, size=200)
    tested = stats.ttest_rel(candidate, baseline)
    found = compare(baseline.tolist(), candidate.tolist())
    assert found.p == pytest.approx(tested.pvalue, abs=0.02)
    assert found.interval == pytest.approx(tuple(tested.confidence_interval(0.95)), abs=0.002)


@given(pairs)
@some_examples
def test_a_comparison_holds_together(rows: list[tuple[float, float]]) -> None:
    baseline, candidate = split(rows)
    found = compare(baseline, candidate)
    assert found.difference == pytest.approx(found.candidate - found.baseline, abs=10**-DECIMALS)
    assert found.wins + found.losses + found.ties == len(rows)
    assert (found.wins, found.losses) == (sum(b < a for b, a in rows), sum(b > a for b, a in rows))
    assert 0 < found.p <= 1
    if found.interval:
        low, high = found.interval
        differences = [a - b for b, a in rows]
        assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9
    assert compare(baseline, candidate) == found, "same seed, same answer"


@given(pairs)
@some_examples
def test_the_other_way_round_it_is_the_same_with_the_other_sign(rows: list[tuple[float, float]]) -> None:
    baseline, candidate = split(rows)
    there, back = compare(baseline, candidate), compare(candidate, baseline)
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    if there.interval:
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_where_nothing_differs_there_is_nothing_to_find() -> None:
    same = [0.1, 0.7, 1.0]
    assert compare(same, same) == Comparison(
        baseline=0.6, candidate=0.6, difference=0.0, interval=(0.0, 0.0), p=1.0, wins=0, losses=0, ties=3
    )


def test_rounding_is_no_win() -> None:
    found = compare([0.3, 0.5], [0.1 + 0.2, 0.5])
    assert (found.wins, found.ties, found.p, found.interval) == (0, 2, 1.0, (0.0, 0.0))


def test_one_query_shows_nothing() -> None:
    assert compare([0.0], [1.0]) == Comparison(
        baseline=0.0, candidate=1.0, difference=1.0, interval=None, p=1.0, wins=1, losses=0, ties=0
    )


def test_the_same_gain_everywhere() -> None:
    found = compare([0.0] * 30, [0.25] * 30)
    assert found.interval == (0.25, 0.25)
    assert found.p == pytest.approx(2 / (RESAMPLES + 1)), "the least that so many draws can show"


@pytest.mark.parametrize(("baseline", "candidate"), [([], []), ([0.1], [0.1, 0.2])])
def test_what_cannot_be_paired_is_refused(baseline: list[float], candidate: list[float]) -> None:
    with pytest.raises(ValueError, match="values of the same queries"):
        compare(baseline, candidate)
