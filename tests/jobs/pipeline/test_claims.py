from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.claims import Claim, Claims

PLACES = st.lists(st.integers(0, 5), min_size=1, max_size=12)  # of inputs with one id, some of them again


def test_without_announcements_an_id_is_its_first_claimers() -> None:
    claims = Claims()
    assert claims.claim([Claim("1", "b", 1), Claim("2", "b", 1)]) == [True, True]
    assert claims.claim([Claim("2", "a", 0), Claim("3", "a", 0)]) == [False, True]
    assert claims.claim([Claim("1", "b", 1), Claim("3", "b", 1)]) == [True, False]  # a repeated task keeps its own


@given(PLACES, PLACES)
def test_what_is_announced_is_the_first_inputs_in_whatever_order_they_come(
    announced: list[int], order: list[int]
) -> None:
    claims = Claims()
    for place in announced:
        claims.announce([Claim("id", f"input {place}", place)])
    for place in order:
        assert claims.claim([Claim("id", f"input {place}", place)]) == [place == min(announced)]


def test_known_is_what_was_announced_or_claimed_or_failed() -> None:
    claims = Claims()
    claims.announce([Claim("1", "a", 0)])
    claims.claim([Claim("2", "a", 0)])
    claims.fail(["3", "1"])
    assert [claims.knows(id) for id in ("1", "2", "3", "4", "")] == [True, True, True, False, False]


def test_ids_are_not_kept_in_memory() -> None:
    claims = Claims()
    tracemalloc.start()
    for start in range(0, 50_000, 500):
        some = [Claim(f"document {number}", "corpus.jsonl", 0) for number in range(start, start + 500)]
        claims.announce(some)
        assert all(claims.claim(some))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 50_000 * 10, "an id alone is 60"
    assert claims.knows("document 49999") and not claims.knows("document 50000")
