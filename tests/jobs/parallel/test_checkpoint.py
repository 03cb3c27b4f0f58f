from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.checkpoint import Checkpoint, keys_of
from jobs.parallel.run import run, run_all
from jobs.parallel.task import Place, Status, Task
from serve_app.errors import InvalidInput, Unavailable
from tests.jobs.parallel.test_graph import graphs
from tests.jobs.parallel.work import add, marked, wait

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=values | st.binary())
def test_what_is_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    Checkpoint(folder).save("key", value)
    known, found = Checkpoint(folder).load("key")
    assert known and found == value and type(found) is type(value)


def seven(*_: object) -> tuple[int, int]:
    return 3, 4


def test_what_json_does_not_give_back_is_a_failure_and_not_a_surprise(tmp_path: Path) -> None:
    tasks = [Task("pair", seven), Task("next", add, after=("pair",)), Task("other", add, (1,))]
    found = run_all(tasks, checkpoint=Checkpoint(tmp_path))
    assert [outcome.status for outcome in found.values()] == [Status.FAILED, Status.SKIPPED, Status.DONE]
    with pytest.raises(InvalidInput, match="JSON does not give tuple back"):
        found["pair"].result()
    with pytest.raises(InvalidInput, match="a: a checkpoint needs a function"):
        run_all([Task("a", Path().joinpath)], checkpoint=Checkpoint(tmp_path))
    with pytest.raises(InvalidInput, match="arguments that are JSON or paths"):
        run_all([Task("a", add, (object(),))], checkpoint=Checkpoint(tmp_path))


@given(tasks=graphs(), stops_after=st.integers(0, 14))
def test_a_run_that_was_cut_off_anywhere_goes_on(
    tmp_path_factory: pytest.TempPathFactory, tasks: dict[str, Task], stops_after: int
) -> None:
    folder, counts = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("counts")
    planned = [Task(id, marked, (counts, id), after=task.after, place=Place.THREADS) for id, task in tasks.items()]
    first = run(planned, checkpoint=Checkpoint(folder))
    done = [next(first).id for _ in range(min(stops_after, len(planned)))]
    first.close()  # type: ignore[attr-defined]
    second = run_all(planned, checkpoint=Checkpoint(folder))
    assert all(outcome.status is Status.DONE for outcome in second.values())
    assert {id for id, outcome in second.items() if outcome.resumed} == set(done)
    third = run_all(planned, checkpoint=Checkpoint(folder))
    assert all(outcome.resumed for outcome in third.values())
    Checkpoint(folder).clear()
    assert list(folder.iterdir()) == []


def test_another_argument_anywhere_before_is_another_task() -> None:
    def keys(number: int) -> dict[str, str]:
        tasks = {"a": Task("a", add, (number,)), "b": Task("b", add, needs=("a",)), "c": Task("c", add, (Path("x"),))}
        return keys_of(tasks, ["a", "b", "c"])

    one, two = keys(1), keys(2)
    assert [one[id] == two[id] for id in "abc"] == [False, False, True]
    assert keys_of({"a": Task("a", wait, (1,))}, ["a"])["a"] != one["a"], "another function"


def test_a_full_disk_ends_the_run_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left on device"):
        run_all([Task("a", add)], checkpoint=Checkpoint(tmp_path))
    monkeypatch.undo()
    assert not run_all([Task("a", add)], checkpoint=Checkpoint(tmp_path))["a"].resumed


def test_a_torn_file_is_done_again(tmp_path: Path) -> None:
    tasks = [Task("a", add, (1, 2))]
    (tmp_path / f"{keys_of({'a': tasks[0]}, ['a'])['a']}.json").write_text('{"half')
    assert run_all(tasks, checkpoint=Checkpoint(tmp_path))["a"].value == 3


def test_a_stream_has_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a stream"):
        run(iter([Task("a", add)]), checkpoint=Checkpoint(tmp_path))
