from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from serve_app.embedding.batches import compose_batches

LENGTHS = st.lists(st.integers(0, 300), max_size=200)


@given(LENGTHS, st.integers(1, 2_000))
def test_every_text_once_and_never_over_budget_but_alone(lengths: list[int], max_tokens: int) -> None:
    batches = compose_batches(lengths, max_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens


@given(LENGTHS, st.integers(1, 2_000))
def test_longest_first(lengths: list[int], max_tokens: int) -> None:
    order = [lengths[index] for batch in compose_batches(lengths, max_tokens) for index in batch]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 2_000))
def test_no_two_neighbours_would_fit_together(lengths: list[int], max_tokens: int) -> None:
    batches = compose_batches(lengths, max_tokens)
    for one, other in pairwise(batches):
        width = max(1, lengths[one[0]])
        assert (len(one) + 1) * width > max_tokens or not other
