"""`map_items` in threads and on a real Ray."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray

from jobs.parallel.calls import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_s, portable
from jobs.parallel.map import map_items
from jobs.parallel.places import CRASH_RETRIES
from jobs.parallel.task import Task, TaskProfile
from serve_app.errors import DeadlineExceeded, Overloaded
from tests.jobs.parallel import work

DEADLINE_S = 60.0
PROFILES = [*TaskProfile]


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def processes_ended(folder: Path) -> bool:
    return not any(psutil.pid_exists(int(path.name)) for path in folder.iterdir())


def require_every_item_once(profile: TaskProfile) -> None:
    task = Task(work.double, profile)
    for items in (range(1_000), iter(range(1_000))):
        results = list(map_items(task, items))
        assert sorted(result.item for result in results) == [*range(1_000)]
        assert all(result.get() == 2 * result.item for result in results)
    assert list(map_items(task, [])) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_item_once_without_ray(monkeypatch: pytest.MonkeyPatch, profile: TaskProfile) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # an earlier test may have connected
    require_every_item_once(profile)
    assert [result.value for result in map_items(Task(work.process, profile), [0])] == [os.getpid()]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_item_once(ray_cluster: str, profile: TaskProfile) -> None:
    require_every_item_once(profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profile_decides_the_place(ray_cluster: str, profile: TaskProfile) -> None:
    here = [result.value == os.getpid() for result in map_items(Task(work.process, profile), range(8))]
    assert set(here) == {profile is TaskProfile.IO}


def test_a_task_that_needs_more_cpus_than_the_cluster_has_runs_here(ray_cluster: str) -> None:
    task = Task(work.process, TaskProfile.CPU, cpus=1_000)
    assert [result.value for result in map_items(task, [0])] == [os.getpid()]


@pytest.mark.parametrize("profile", [TaskProfile.IO, TaskProfile.CPU])
def test_a_failure_is_raised_with_its_item(ray_cluster: str, profile: TaskProfile) -> None:
    with pytest.raises(ValueError, match="is odd") as raised:
        list(map_items(Task(work.fail_if_odd, profile), [0, 2, 7, 4]))
    traced, where = raised.value.__notes__
    assert "in fail_if_odd" in traced, "the traceback of where it happened"
    assert where == "fail_if_odd failed for 7"


@pytest.mark.parametrize("profile", [TaskProfile.IO, TaskProfile.CPU])
def test_failures_are_results_if_it_keeps_going(ray_cluster: str, profile: TaskProfile) -> None:
    found = {each.item: each for each in map_items(Task(work.fail_if_odd, profile), range(200), keep_going=True)}
    assert {item for item, each in found.items() if each.error} == {*range(1, 200, 2)}
    assert all(found[item].get() == item for item in range(0, 200, 2))
    with pytest.raises(ValueError, match="7 is odd"):
        found[7].get()


@pytest.mark.parametrize("profile", [TaskProfile.IO, TaskProfile.CPU])
def test_retries(ray_cluster: str, profile: TaskProfile, tmp_path: Path) -> None:
    calls = [(tmp_path, "twice", 2), (tmp_path, "often", 3)]
    task = Task(work.fail_first, profile, retries=2)
    found = {each.item[1]: each for each in map_items(task, calls, keep_going=True)}
    assert (found["twice"].value, found["often"].value) == ("twice", None)
    assert "often fails at first" in str(found["often"].error)
    assert len(list(tmp_path.glob("often.*"))) == 3


def test_each_pause_before_a_retry_is_twice_the_one_before() -> None:
    assert [pause_s(1), pause_s(2), pause_s(4)] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pause_s(1_000_000) == LONGEST_PAUSE_S


def test_only_the_call_that_kills_its_worker_fails(ray_cluster: str, tmp_path: Path) -> None:
    """The other calls of its batch run again. A call that kills its worker only once succeeds, too."""
    times = {3: 1, 40: 99}
    calls = [(tmp_path, str(number), times.get(number, 0)) for number in range(60)]
    found = {
        int(each.item[1]): each for each in map_items(Task(work.die_first, TaskProfile.CPU), calls, keep_going=True)
    }
    assert {number for number, each in found.items() if each.error} == {40}
    assert found[3].value == "3" and len(found) == 60
    assert len(list(tmp_path.glob("40.*"))) >= 1 + CRASH_RETRIES


def test_a_timeout_kills_the_worker(ray_cluster: str, tmp_path: Path) -> None:
    list(map_items(Task(work.double, TaskProfile.CPU), range(4)))  # a worker's start takes seconds, which would count
    task = Task(work.hang_or_double, TaskProfile.CPU, timeout_s=5.0)
    found = list(map_items(task, [1, tmp_path, 2], keep_going=True))
    assert sorted(each.value for each in found if not each.error) == [2, 4]
    with pytest.raises(DeadlineExceeded, match="hang_or_double did not end in 5 s"):
        next(each for each in found if each.error).get()
    assert any(tmp_path.iterdir())
    until(lambda: processes_ended(tmp_path))


def test_a_thread_that_is_late_does_not_hold_up_the_others() -> None:
    release = threading.Event()
    began_s = time.monotonic()
    task = Task(release.wait, TaskProfile.IO, timeout_s=0.2)
    try:
        found = list(map_items(task, [0.0, 2 * DEADLINE_S, 0.0], at_once=1, keep_going=True))
    finally:
        release.set()  # its thread ends with the test
    assert time.monotonic() - began_s < DEADLINE_S
    assert [type(each.error) for each in found] == [type(None), DeadlineExceeded, type(None)]


@pytest.mark.parametrize("profile", [TaskProfile.IO, TaskProfile.CPU])
def test_a_failure_cancels_the_rest(ray_cluster: str, profile: TaskProfile, tmp_path: Path) -> None:
    taken = 0

    def calls() -> Iterator[tuple[Path, str, int]]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield tmp_path, str(number), number == 0

    with pytest.raises(Exception, match="0 fails at first"):
        list(map_items(Task(work.fail_first, profile), calls()))
    assert taken < 100_000


def test_closing_the_results_kills_the_workers(ray_cluster: str, tmp_path: Path) -> None:
    results = map_items(Task(work.hang_or_double, TaskProfile.CPU), [1, tmp_path, tmp_path])
    assert next(results).value == 2
    until(lambda: any(tmp_path.iterdir()))
    results.close()  # type: ignore[attr-defined]
    until(lambda: processes_ended(tmp_path))


def test_ctrl_c_kills_the_workers(ray_cluster: str, tmp_path: Path) -> None:
    def interrupt() -> None:
        until(lambda: any(tmp_path.iterdir()))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in a background job
    interrupter = threading.Thread(target=interrupt)
    try:
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            list(map_items(Task(work.hang, TaskProfile.CPU), [tmp_path]))
    finally:
        interrupter.join()
        signal.signal(signal.SIGINT, before)
    until(lambda: processes_ended(tmp_path))


def test_items_are_read_no_further_than_they_are_worked_off() -> None:
    taken = most = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000_000):
            taken += 1
            yield number

    for done, _ in enumerate(map_items(Task(work.double, TaskProfile.IO), items()), start=1):
        most = max(most, taken - done)
        if done == 50_000:
            break
    assert most < 40_000


def test_at_once_bounds_what_runs() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    assert len(list(map_items(Task(call, TaskProfile.IO), range(100), at_once=3))) == 100
    assert most == 3


def test_what_cannot_be_pickled_fails_alone(ray_cluster: str) -> None:
    task = Task(work.unpicklable_if_odd, TaskProfile.CPU)
    found = {each.item: each for each in map_items(task, range(100), keep_going=True)}
    assert {item for item, each in found.items() if each.error} == {*range(1, 100, 2)}
    assert "pickle" in str(found[1].error)
    items = [threading.Lock(), 1]
    results = list(map_items(Task(work.process, TaskProfile.CPU), items, keep_going=True))
    assert {id(each.item) for each in results if each.error} == {id(items[0])}
    with pytest.raises(RuntimeError, match="Clumsy: cannot be unpickled"):
        list(map_items(Task(work.raise_clumsy, TaskProfile.CPU), [0]))


@pytest.mark.parametrize("profile", [TaskProfile.IO, TaskProfile.CPU])
def test_a_task_that_exits_fails(ray_cluster: str, profile: TaskProfile) -> None:
    found = list(map_items(Task(work.leave, profile), range(20), keep_going=True))
    assert [each.item for each in found if each.error] == [5]
    assert len(found) == 20


def test_errors_with_fields_stay_what_they_are() -> None:
    error = pickle.loads(pickle.dumps(portable(Overloaded("full", retry_after_s=2.0))))
    assert (type(error), str(error), error.retry_after_s) == (Overloaded, "full", 2.0)
