import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.embedding.batches import COUNTS, compose_batches, padded_width, share_tokens

WIDTHS = st.lists(st.integers(1, 300), max_size=100)
TOKENS = st.integers(1, 2_000)
OVERHEAD = st.integers(0, 100)


def cost(batches: Sequence[Sequence[int]], widths: Sequence[int], overhead: int) -> int:
    return sum(overhead + len(batch) * max(widths[i] for i in batch) for batch in batches)


@given(WIDTHS, TOKENS, OVERHEAD)
def test_every_text_once_and_never_over_budget_but_alone(widths: list[int], max_tokens: int, overhead: int) -> None:
    batches = compose_batches(widths, max_tokens, overhead)
    assert sorted(index for batch in batches for index in batch) == list(range(len(widths)))
    for batch in batches:
        assert len(batch) in COUNTS
        assert len(batch) == 1 or len(batch) * max(widths[i] for i in batch) <= max_tokens


@given(WIDTHS, TOKENS, OVERHEAD)
def test_widest_first(widths: list[int], max_tokens: int, overhead: int) -> None:
    order = [widths[index] for batch in compose_batches(widths, max_tokens, overhead) for index in batch]
    assert order == sorted(widths, reverse=True)


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(40, 120), st.integers(0, 60))
def test_no_composition_of_any_kind_costs_less(widths: list[int], max_tokens: int, overhead: int) -> None:
    found = cost(compose_batches(widths, max_tokens, overhead), widths, overhead)
    for labels in itertools.product(range(len(widths)), repeat=len(widths)):
        batches = [[i for i, of in enumerate(labels) if of == label] for label in set(labels)]
        if all(
            len(batch) in COUNTS and (len(batch) == 1 or len(batch) * max(widths[i] for i in batch) <= max_tokens)
            for batch in batches
        ):
            assert found <= cost(batches, widths, overhead)


def test_short_texts_do_not_pay_for_a_long_one() -> None:
    assert compose_batches([10, 256, 10, 10], 1_024, 24) == [[1], [0, 2, 3]]


def test_passes_that_cost_much_are_few() -> None:
    assert compose_batches([10, 256, 10, 10], 2_048, 10_000) == [[1, 0, 2, 3]]


@given(st.lists(st.integers(1, 300), min_size=2, max_size=100), OVERHEAD)
def test_one_of_two_workers_never_takes_all(widths: list[int], overhead: int) -> None:
    assert len(compose_batches(widths, share_tokens(widths, 2), overhead)) >= 2


@given(WIDTHS, st.integers(1, 8))
def test_shares_suffice_for_all(widths: list[int], workers: int) -> None:
    assert workers * share_tokens(widths, workers) >= len(widths) * max(widths, default=0)


def test_a_single_worker_takes_all_and_two_the_half() -> None:
    assert compose_batches([20] * 3, share_tokens([20] * 3, 1), 16) == [[0, 1, 2]]
    assert sorted(map(len, compose_batches([20] * 3, share_tokens([20] * 3, 2), 16))) == [1, 2]
    assert share_tokens([], 2) == 0


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_width_holds_its_text_and_little_more(tokens: int, beyond: int) -> None:
    width = padded_width(tokens, tokens + beyond) if tokens + beyond else 0
    assert tokens <= width <= tokens + beyond
    assert width <= max(4, tokens * 9 / 8 + 4)
    assert padded_width(width, 10_000) == width or width == tokens + beyond


def test_widths_are_few() -> None:
    widths = {padded_width(tokens, 512) for tokens in range(513)}
    assert len(widths) <= 50
    assert max(widths) == 512
    assert padded_width(254, 256) == padded_width(249, 250) + 6 == 256
