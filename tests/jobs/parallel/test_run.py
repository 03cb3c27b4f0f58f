"""The loop, on threads and on a real Ray."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs.parallel.run import run, run_all
from jobs.parallel.task import Place, Status, Task
from serve_app.errors import DeadlineExceeded, InvalidInput, Unavailable
from tests.jobs.parallel import work

DEADLINE_S = 60.0
PLACES = [Place.THREADS, Place.WORKERS]


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize("place", PLACES)
def test_values_flow_and_a_failure_takes_only_what_follows(ray_cluster: str, place: Place) -> None:
    tasks = [
        Task("sum", work.add, (100,), needs=("one", "two"), place=place),
        Task("one", work.add, (1,), place=place),
        Task("two", work.add, (2,), place=place),
        Task("bad", work.fail, after=("one",), place=place),
        Task("lost", work.add, needs=("bad",), place=place),
        Task("lost too", work.add, after=("lost",), place=place),
    ]
    found = run_all(tasks)
    assert list(found) == [task.id for task in tasks]
    assert found["sum"].result() == 103
    with pytest.raises(ValueError, match="on purpose") as raised:
        found["bad"].result()
    assert "in fail" in raised.value.__notes__[0], "the traceback of where it happened"
    assert {id: found[id].because for id in ("lost", "lost too")} == {"lost": "bad", "lost too": "bad"}
    with pytest.raises(Unavailable, match="lost was not begun, because bad failed"):
        found["lost"].result()


def test_a_value_that_only_skipped_tasks_need_is_let_go() -> None:
    tasks = [
        Task("one", Value),
        Task("bad", work.fail, after=("one",)),
        Task("lost", work.add, needs=("one", "bad")),
    ]
    outcomes = run(tasks)
    value = weakref.ref(next(outcomes).value)
    while next(outcomes).status is not Status.SKIPPED:
        assert value() is not None
    assert value() is None


class Value:
    pass


def test_all_kinds_at_once_each_exactly_once(ray_cluster: str) -> None:
    blob = os.urandom(50_000)
    calls = [(work.spin, 40_000), (work.wait, 0.002), (work.press, blob), (work.add, 5), (work.fail, 0)]
    tasks = [
        Task(f"{number}", function, (argument,)) for number in range(300) for function, argument in [calls[number % 5]]
    ]
    found = list(run(iter(tasks)))
    assert sorted(int(outcome.id) for outcome in found) == list(range(300))
    assert {outcome.status for outcome in found if int(outcome.id) % 5 == 4} == {Status.FAILED}
    assert all(outcome.result() == 5 for outcome in found if int(outcome.id) % 5 == 3)


def test_what_computes_goes_to_workers_and_what_waits_to_threads(ray_cluster: str) -> None:
    """Whatever else the machine does: the first few of a kind are the sample, and run here."""
    here = os.getpid()
    computing = [Task(f"c{number}", spin_where, (400_000,)) for number in range(200)]
    waiting = [Task(f"w{number}", wait_where, (0.02,)) for number in range(60)]
    found = run_all([*computing, *waiting])
    away = [outcome.value != here for outcome in found.values()]
    assert sum(away[:200]) > 100
    assert sum(away[200:]) == 0


def spin_where(turns: int) -> int:
    work.spin(turns)
    return os.getpid()


def wait_where(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.parametrize("place", PLACES)
def test_what_fails_is_tried_again_as_often_as_it_says(ray_cluster: str, place: Place, tmp_path: Path) -> None:
    found = run_all(
        [
            Task("twice", work.fail_first, (tmp_path, "twice", 2), retries=2, place=place),
            Task("too often", work.fail_first, (tmp_path, "often", 3), retries=1, place=place),
        ]
    )
    assert (found["twice"].value, found["twice"].attempts) == ("twice", 3)
    assert (found["too often"].status, found["too often"].attempts) == (Status.FAILED, 2)
    assert len(list(tmp_path.glob("often.*"))) == 2


def test_a_worker_that_dies_is_no_fault_of_its_tasks(ray_cluster: str, tmp_path: Path) -> None:
    """Those of its batch are done again one by one; what kills its worker every time fails alone."""
    tasks = [Task(f"{number}", work.die_first, (tmp_path, f"{number}", 0), place=Place.WORKERS) for number in range(30)]
    tasks[7] = Task("7", work.die_first, (tmp_path, "7", 1), place=Place.WORKERS)
    tasks[20] = Task("20", work.die_first, (tmp_path, "20", 99), place=Place.WORKERS)
    found = run_all(tasks)
    assert [id for id, outcome in found.items() if outcome.status is not Status.DONE] == ["20"]
    assert found["20"].attempts >= 4
    assert found["7"].attempts >= 2 and found["7"].value == "7"


def test_a_killed_worker_is_replaced(ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "began").mkdir()
    tasks = [Task("victim", wait_to_be_killed, (tmp_path,), place=Place.WORKERS)]
    killer = threading.Thread(target=kill_first, args=(tmp_path / "began",))
    killer.start()
    outcome = run_all(tasks)["victim"]
    killer.join()
    assert (outcome.value, outcome.attempts) == ("alive", 2)


def wait_to_be_killed(folder: Path) -> str:
    if not list((folder / "began").iterdir()):
        work.hang(folder / "began")
    return "alive"


def kill_first(folder: Path) -> None:
    until(lambda: any(folder.iterdir()))
    psutil.Process(int(next(folder.iterdir()).name)).kill()


def test_a_timeout_ends_the_worker_and_frees_its_place(ray_cluster: str, tmp_path: Path) -> None:
    run_all([Task("warm", work.add, (1,), place=Place.WORKERS)])  # a worker's start takes seconds, and counts
    tasks = [Task(f"{number}", work.hang, (tmp_path,), timeout_s=5.0) for number in range(3)]
    found = run_all([*tasks, Task("good", work.add, (1,), timeout_s=DEADLINE_S)])
    with pytest.raises(DeadlineExceeded, match="0 was not done in 5 s"):
        found["0"].result()
    assert found["good"].value == 1
    assert any(tmp_path.iterdir())
    until(lambda: not any(psutil.pid_exists(int(path.name)) for path in tmp_path.iterdir()))


def test_a_thread_that_is_late_is_left_to_itself() -> None:
    release = threading.Event()
    found = run_all([Task("late", release.wait, timeout_s=0.2, place=Place.THREADS), Task("good", work.add)])
    release.set()
    assert (found["late"].status, found["good"].status) == (Status.FAILED, Status.DONE)


def test_to_stop_reading_ends_what_runs(ray_cluster: str, tmp_path: Path) -> None:
    tasks = [Task("quick", work.add), *(Task(f"{n}", work.hang, (tmp_path,), place=Place.WORKERS) for n in range(2))]
    outcomes = run(tasks)
    assert next(outcomes).id == "quick"
    until(lambda: any(tmp_path.iterdir()))
    outcomes.close()  # type: ignore[attr-defined]
    until(lambda: not any(psutil.pid_exists(int(path.name)) for path in tmp_path.iterdir()))


def test_a_stream_is_read_no_further_than_it_is_worked_off() -> None:
    """A million tasks, of which never more than some thousand are in memory."""
    taken = most = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for number in range(1_000_000):
            taken += 1
            yield Task(str(number), work.wait, (0,))

    for done, _ in enumerate(run(tasks()), start=1):
        most = max(most, taken - done)
        if done == 100_000:
            break
    assert most < 90_000


def test_memory_bounds_what_runs_at_once_here() -> None:
    """Tasks of some 60 MiB, and room for two of them."""
    tasks = [Task(f"{number}", hold, (60,), place=Place.THREADS) for number in range(12)]
    before = psutil.Process().memory_info().rss
    most_here = 0
    for outcome in run(tasks, memory_bytes=150 * 1024**2):
        assert outcome.result() == 60
        most_here = max(most_here, psutil.Process().memory_info().rss - before)
    assert most_here < 400 * 1024**2, "all at once would have been 720"


def hold(size_mib: int) -> int:
    content = bytearray(os.urandom(1024**2) * size_mib)
    time.sleep(0.05)
    return len(content) // 1024**2


def test_what_does_not_travel_is_told(ray_cluster: str) -> None:
    lock = threading.Lock()
    found = run_all(
        [
            Task("lock", work.add, (lock,), place=Place.WORKERS),
            Task("clumsy", work.raise_clumsy, place=Place.WORKERS),
            Task("result", threading.Lock, place=Place.WORKERS),
            Task("good", work.add, (1,), place=Place.WORKERS),
            Task("here", id, (lock,)),
        ]
    )
    assert [found[name].status for name in ("lock", "clumsy", "result")] == [Status.FAILED] * 3
    with pytest.raises(RuntimeError, match="Clumsy: does not travel"):
        found["clumsy"].result()
    assert "pickle" in str(found["result"].error) and found["result"].attempts <= 2
    assert (found["good"].value, found["here"].value) == (1, id(lock))


def test_what_cannot_be_run_is_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidInput, match="two tasks have the id a"):
        run([Task("a", work.add), Task("a", work.add)])
    with pytest.raises(InvalidInput, match="there is no such task"):
        run([Task("a", work.add, after=("b",))])
    assert list(run([])) == []


def test_what_cannot_come_back_from_a_worker_is_done_here(ray_cluster: str) -> None:
    """The first, which is the sample, is not done when it is seen that the others should go to workers."""
    found = run_all([Task(f"{number}", slow_lock) for number in range(12)])
    assert {outcome.status for outcome in found.values()} == {Status.DONE}


def slow_lock() -> object:
    work.spin(5_000_000)
    return threading.Lock()


def test_what_ends_its_thread_fails_and_is_not_tried_for_ever() -> None:
    found = run_all([Task(f"{number}", leave, (number,)) for number in range(200)])
    assert [id for id, outcome in found.items() if outcome.status is not Status.DONE] == ["150"]


def leave(number: int) -> None:
    if number == 150:
        raise SystemExit
