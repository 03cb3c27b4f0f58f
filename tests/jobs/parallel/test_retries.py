from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.places import Attempt
from jobs.parallel.retries import CRASH_RETRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Retries, after_crash, after_error
from jobs.parallel.task import Task


def attempt(begun: int = 1, retries: int = 0) -> Attempt:
    return Attempt(Task("one", int, retries=retries), (), begun=begun)


@pytest.mark.parametrize(
    ("begun", "pause_s"), [(1, FIRST_PAUSE_S), (2, 2 * FIRST_PAUSE_S), (4, 8 * FIRST_PAUSE_S), (30, LONGEST_PAUSE_S)]
)
def test_each_pause_is_twice_the_one_before(begun: int, pause_s: float) -> None:
    retries = Retries()
    retries.put(attempt(begun), now_s=100.0)
    assert retries.next_s == pytest.approx(100.0 + pause_s)


@given(st.lists(st.integers(1, 12), max_size=20), st.floats(0, 12))
def test_those_are_due_whose_pause_is_over_the_earliest_first(begun: list[int], now_s: float) -> None:
    retries = Retries()
    for number in begun:
        retries.put(attempt(number), now_s=0.0)
    due = [each.begun for each in retries.due(now_s)]
    pauses_s = {number: min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (number - 1)) for number in begun}
    assert due == sorted((number for number in begun if pauses_s[number] <= now_s), key=lambda number: pauses_s[number])
    assert bool(retries) == (len(due) < len(begun))
    assert retries.next_s > now_s


def test_as_many_retries_as_the_task_has_and_no_more() -> None:
    one = attempt(retries=2)
    assert [after_error(one) for _ in range(4)] == [True, True, False, False]
    assert [after_crash(one) for _ in range(CRASH_RETRIES + 1)] == [True] * CRASH_RETRIES + [False]
