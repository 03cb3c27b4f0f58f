from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.ir_metrics import mean_measures, measure, mrr_at_k, ndcg_at_k, recall_at_k

DOCUMENTS = [f"d{i}" for i in range(8)]
rankings = st.lists(st.sampled_from(DOCUMENTS), unique=True)
judgements = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1, 4))
depths = st.integers(1, 10)


def test_ndcg_by_hand() -> None:
    # grades in rank order 3 2 0 1; gain linear: 3/1 + 2/1.585 + 0 + 1/2.3219; the best order is 3 2 1
    grades = {"a": 3, "b": 2, "c": 0, "d": 1}
    got = 3 + 2 / math.log2(3) + 1 / math.log2(5)
    best = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg_at_k(["a", "b", "c", "d"], grades, 10) == pytest.approx(got / best)
    assert got / best == pytest.approx(0.985442, abs=1e-6)


def test_ndcg_of_a_binary_second_place() -> None:
    assert ndcg_at_k(["x", "a"], {"a": 1}, 10) == pytest.approx(1 / math.log2(3))


def test_ndcg_ideal_is_cut_at_k() -> None:
    assert ndcg_at_k(["a"], {"a": 1, "b": 1, "c": 1}, 1) == 1


def test_recall_and_mrr_by_hand() -> None:
    grades = {"a": 1, "b": 2, "c": 1, "d": 0}
    assert recall_at_k(["d", "b", "x", "a"], grades, 3) == pytest.approx(1 / 3)
    assert mrr_at_k(["d", "b", "x", "a"], grades, 3) == 1 / 2
    assert mrr_at_k(["d", "x", "b"], grades, 2) == 0


def test_means_weigh_queries_equally() -> None:
    first, second = measure(["a"], {"a": 1}), measure(["b"], {"a": 1})
    assert mean_measures([first, second]) == {"ndcg@10": 0.5, "recall@100": 0.5, "mrr@10": 0.5}
    with pytest.raises(ValueError, match="no query"):
        mean_measures([])


@given(rankings, judgements)
def test_measures_are_ratios(ranking: list[str], grades: dict[str, int]) -> None:
    assert all(0 <= value <= 1 + 1e-12 for value in measure(ranking, grades).values())


@given(judgements.filter(lambda grades: any(grade > 0 for grade in grades.values())), depths)
def test_the_best_order_scores_one(grades: dict[str, int], k: int) -> None:
    best = sorted(grades, key=lambda document: -grades[document])
    assert ndcg_at_k(best, grades, k) == pytest.approx(1)
    assert mrr_at_k(best, grades, k) == 1
    assert recall_at_k(best, grades, len(best)) == 1


@given(st.dictionaries(st.sampled_from(DOCUMENTS[:4]), st.integers(0, 3), min_size=1), depths)
def test_no_order_beats_the_best(grades: dict[str, int], k: int) -> None:
    best = sorted(grades, key=lambda document: -grades[document])
    top = ndcg_at_k(best, grades, k)
    assert all(ndcg_at_k(order, grades, k) <= top + 1e-12 for order in permutations(grades))


@given(rankings, judgements, depths)
def test_a_longer_list_never_lowers_recall_or_mrr(ranking: list[str], grades: dict[str, int], k: int) -> None:
    assert recall_at_k(ranking, grades, k + 1) >= recall_at_k(ranking, grades, k)
    assert mrr_at_k(ranking, grades, k + 1) >= mrr_at_k(ranking, grades, k)


@given(rankings, judgements)
def test_what_is_not_relevant_may_change_places(ranking: list[str], grades: dict[str, int]) -> None:
    irrelevant = iter([d for d in ranking if grades.get(d, 0) <= 0][::-1])
    swapped = [d if grades.get(d, 0) > 0 else next(irrelevant) for d in ranking]
    assert measure(swapped, grades) == measure(ranking, grades)
