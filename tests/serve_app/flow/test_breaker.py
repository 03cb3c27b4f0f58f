"""The breaker's states as a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.flow.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker


def test_pauses_grow_and_one_success_ends_them() -> None:
    breaker, now_s, pauses = Breaker(), 0.0, []
    for _ in range(9):
        breaker = breaker.failed(now_s)
        pauses.append(breaker.pause_s)
        assert not breaker.is_closed and not breaker.probe_is_due(now_s)
        now_s = breaker.probe_at_s
        assert breaker.probe_is_due(now_s)
    assert pauses[:4] == [FIRST_PAUSE_S * factor for factor in (1, 2, 4, 8)] and pauses[-1] == LONGEST_PAUSE_S
    assert breaker.succeeded().is_closed


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans())))
def test_it_is_open_exactly_since_the_last_failure_without_success(events: list[tuple[float, bool]]) -> None:
    breaker, now_s = Breaker(), 0.0
    for passed_s, works in events:
        now_s += passed_s
        breaker = breaker.succeeded() if works else breaker.failed(now_s)
        assert breaker.is_closed == works
        assert works or now_s < breaker.probe_at_s <= now_s + LONGEST_PAUSE_S
        assert not breaker.probe_is_due(now_s)


def test_a_failure_of_a_call_that_began_before_the_pause_does_not_make_it_longer() -> None:
    breaker = Breaker().failed(10.0)
    assert breaker.failed(10.0 + FIRST_PAUSE_S / 2) == breaker
    assert breaker.failed(10.0 + FIRST_PAUSE_S) != breaker, "a probe has failed"
