from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from jobs.claims import Claim, Claims

ORDERS = st.lists(st.integers(0, 5), min_size=1, max_size=14)  # of inputs that claim one id, some of them again


def test_an_id_is_its_first_inputs() -> None:
    claims = Claims()
    assert claims.settle([Claim("1", "a", 0), Claim("2", "a", 0)]) == [None, None]
    assert claims.settle([Claim("2", "b", 1), Claim("3", "b", 1)]) == ["b", None]
    assert claims.taken_over() == {}


def test_an_earlier_input_takes_over_what_a_later_one_claimed_before() -> None:
    claims = Claims()
    assert claims.settle([Claim("1", "c", 2), Claim("2", "c", 2)]) == [None, None]
    assert claims.settle([Claim("1", "b", 1)]) == ["c"]
    assert claims.settle([Claim("1", "a", 0)]) == ["b"]
    assert claims.taken_over() == {"a": ["1"]}


@given(ORDERS)
def test_whoever_claims_first_the_first_input_has_it_and_each_other_loses_once(order: list[int]) -> None:
    claims = Claims()
    verdicts: dict[str, str | None] = {}
    for place in order:
        [loser] = claims.settle([Claim("id", f"input {place}", place)])
        assert verdicts.setdefault(f"input {place}", loser) == loser, "a repeated task gives other rows"
    first = f"input {min(order)}"
    assert sorted(filter(None, verdicts.values())) == sorted(verdicts.keys() - {first})
    went_through = [name for name, loser in verdicts.items() if loser is None]
    assert went_through == [f"input {order[0]}"]
    assert claims.taken_over() == ({} if went_through == [first] else {first: ["id"]})


def test_known_is_what_was_claimed_or_failed() -> None:
    claims = Claims()
    claims.settle([Claim("1", "a", 0)])
    claims.fail(["2", "1"])
    assert [claims.knows(id) for id in ("1", "2", "3", "")] == [True, True, False, False]


def test_ids_are_not_kept_in_memory() -> None:
    claims = Claims()
    tracemalloc.start()
    for start in range(0, 50_000, 500):
        some = [Claim(f"document {number}", "corpus.jsonl", 0) for number in range(start, start + 500)]
        assert claims.settle(some) == [None] * 500
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 50_000 * 10, "an id alone is 60"
    assert claims.knows("document 49999") and not claims.knows("document 50000")
