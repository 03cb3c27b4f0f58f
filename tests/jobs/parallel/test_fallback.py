"""What was sent to a worker without a sample, for there are few or they have a timeout, and does not travel."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from jobs.parallel.run import run, run_all
from jobs.parallel.task import Place, Status, Task
from serve_app.errors import DeadlineExceeded
from tests.jobs.parallel import work

DEADLINE_S = 60.0
HERE = os.getpid()
HANGS = threading.Event()  # set: no more


@pytest.fixture(autouse=True)
def warm(ray_cluster: str) -> None:
    """A worker's start takes seconds, and counts."""
    run_all([Task("warm", work.add, (1,), place=Place.WORKERS)])


def test_a_result_that_cannot_come_back() -> None:
    found = run_all([Task("lock", threading.Lock), Task("use", is_free, needs=("lock",))])
    assert found["use"].result() is True
    assert found["lock"].attempts == 2


def is_free(lock: threading.Lock) -> bool:
    return not lock.locked()


def test_arguments_that_cannot_be_sent_after_some_that_can() -> None:
    lock = threading.Lock()
    found = run_all([Task("a", id, (1,)), Task("b", id, (lock,), after=("a",)), Task("c", id, (2,), after=("b",))])
    assert found["b"].result() == id(lock)
    assert found["c"].status is Status.DONE


@pytest.mark.parametrize("form", [list, iter])
def test_results_of_tasks_with_a_timeout(form: Callable[[list[Task]], Iterable[Task]]) -> None:
    tasks = [Task(str(number), threading.Lock, timeout_s=DEADLINE_S) for number in range(40)]
    found = list(run(form(tasks)))
    assert {outcome.status for outcome in found} == {Status.DONE}
    assert sum(outcome.attempts > 1 for outcome in found) <= 4, "the rest does not go to a worker before"


def test_what_is_late_here_is_left_to_itself_and_holds_up_nobody() -> None:
    timeouts_s = {"late": 5.0, "good": DEADLINE_S, "good too": DEADLINE_S}
    HANGS.clear()
    began_s = time.monotonic()
    try:
        found = run_all([Task(name, lock_or_hang, (HERE, name), timeout_s=most) for name, most in timeouts_s.items()])
    finally:
        HANGS.set()  # its thread ends with the test
    assert time.monotonic() - began_s < DEADLINE_S
    assert [outcome.status for outcome in found.values()] == [Status.FAILED, Status.DONE, Status.DONE]
    with pytest.raises(DeadlineExceeded, match="late was not done in 5 s"):
        found["late"].result()
    assert found["late"].attempts == 2


def lock_or_hang(here: int, name: str) -> object:
    if os.getpid() == here and name == "late":
        HANGS.wait(2 * DEADLINE_S)
    return threading.Lock()


def test_what_fails_here_is_its_own_failure(tmp_path: Path) -> None:
    found = run_all([Task("bad", lock_or_fail, (HERE, tmp_path)), Task("lost", work.add, after=("bad",))])
    with pytest.raises(ValueError, match="on purpose"):
        found["bad"].result()
    assert found["lost"].because == "bad"
    assert len(list(tmp_path.iterdir())) == found["bad"].attempts == 2


def lock_or_fail(here: int, folder: Path) -> object:
    work.marked(folder, "call")
    if os.getpid() == here:
        work.fail()
    return threading.Lock()


def test_a_kind_that_waits_for_its_workers_holds_up_no_other(tmp_path: Path) -> None:
    """`long` ends only when `go` is done, which is to be sampled while `lock` waits to be."""
    go = tmp_path / "go"
    found = run_all(
        [
            Task("long", lock_or_wait, (go,), timeout_s=DEADLINE_S),
            Task("lock", lock_or_wait, timeout_s=DEADLINE_S),
            Task("pause", work.wait, (2.0,), place=Place.THREADS),
            Task("go", Path.touch, (go,), after=("pause",), place=Place.THREADS),
        ]
    )
    assert {outcome.status for outcome in found.values()} == {Status.DONE}
    assert (found["long"].value, found["lock"].attempts) == (None, 2)


def lock_or_wait(until: Path | None = None) -> object:
    if until is None:
        return threading.Lock()
    while not until.exists():
        time.sleep(0.01)
    return None
