from __future__ import annotations

from collections import Counter

import pytest

from jobs.parallel.values import Values


def test_a_value_is_kept_until_the_last_that_needs_it_has_it() -> None:
    values = Values(Counter(["a", "a", "b"]))
    for id in "abc":
        values.keep(id, id.upper())
    assert values.take(["a", "b"]) == ("A", "B")
    assert values.take(["a"]) == ("A",)
    for id in "abc":  # nobody needs them: the last was never needed
        with pytest.raises(KeyError):
            values.take([id])


def test_a_task_that_needs_a_value_twice_gets_it_twice() -> None:
    values = Values(Counter(["a", "a"]))
    values.keep("a", 1)
    assert values.take(["a", "a"]) == (1, 1)


def test_who_never_begins_needs_nothing() -> None:
    values = Values(Counter(["a", "b"]))
    values.keep("a", 1)
    values.release(["a", "b"])  # b is not done yet
    values.keep("b", 2)
    for id in "ab":
        with pytest.raises(KeyError):
            values.take([id])
