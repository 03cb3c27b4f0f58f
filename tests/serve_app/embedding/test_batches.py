import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from serve_app.embedding.batches import compose_batches, share_tokens

LENGTHS = st.lists(st.integers(0, 300), max_size=100)
TOKENS = st.integers(1, 2_000)
OVERHEAD = st.integers(0, 100)


def cost(batches: Sequence[Sequence[int]], lengths: Sequence[int], overhead: int) -> int:
    return sum(overhead + len(batch) * max(1, *(lengths[i] for i in batch)) for batch in batches)


@given(LENGTHS, TOKENS, OVERHEAD)
def test_every_text_once_and_never_over_budget_but_alone(lengths: list[int], max_tokens: int, overhead: int) -> None:
    batches = compose_batches(lengths, max_tokens, overhead)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens


@given(LENGTHS, TOKENS, OVERHEAD)
def test_longest_first(lengths: list[int], max_tokens: int, overhead: int) -> None:
    order = [lengths[index] for batch in compose_batches(lengths, max_tokens, overhead) for index in batch]
    assert order == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(40, 120), st.integers(0, 60))
def test_no_composition_of_any_kind_costs_less(lengths: list[int], max_tokens: int, overhead: int) -> None:
    found = cost(compose_batches(lengths, max_tokens, overhead), lengths, overhead)
    for labels in itertools.product(range(len(lengths)), repeat=len(lengths)):
        batches = [[i for i, of in enumerate(labels) if of == label] for label in set(labels)]
        if all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens for batch in batches):
            assert found <= cost(batches, lengths, overhead)


def test_short_texts_do_not_pay_for_a_long_one() -> None:
    assert compose_batches([10, 256, 10, 10], 1_024, 24) == [[1], [0, 2, 3]]


def test_passes_that_cost_much_are_few() -> None:
    assert compose_batches([10, 256, 10, 10], 2_048, 10_000) == [[1, 0, 2, 3]]


@given(st.lists(st.integers(1, 300), min_size=2, max_size=100), OVERHEAD)
def test_one_of_two_workers_never_takes_all(lengths: list[int], overhead: int) -> None:
    assert len(compose_batches(lengths, share_tokens(lengths, 2), overhead)) >= 2


@given(LENGTHS, st.integers(1, 8))
def test_shares_suffice_for_all(lengths: list[int], workers: int) -> None:
    assert workers * share_tokens(lengths, workers) >= len(lengths) * max(lengths, default=0)


def test_a_single_worker_takes_all_and_two_the_half() -> None:
    assert compose_batches([20] * 3, share_tokens([20] * 3, 1), 16) == [[0, 1, 2]]
    assert sorted(map(len, compose_batches([20] * 3, share_tokens([20] * 3, 2), 16))) == [1, 2]
    assert share_tokens([], 2) == 0
