from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.pool import (
    AHEAD,
    GROWTH,
    IO_CEILING,
    IO_FIRST,
    MOST_CALLS,
    Capacity,
    TaskPool,
    batch_calls,
    first_estimate,
)
from jobs.parallel.task import Task, TaskProfile
from serve_app.errors import InvalidInput
from tests.jobs.parallel import work

GIB = 1024**3
HERE = Capacity(cpus=4, memory_bytes=8 * GIB, in_ray=False)
RAY = Capacity(cpus=8, memory_bytes=8 * GIB, in_ray=True)
CPU = Task(work.add, TaskProfile.CPU)
IO = Task(work.add, TaskProfile.IO)


@pytest.mark.parametrize(
    ("task", "capacity", "at_once", "limit"),
    [
        (CPU, HERE, None, 4),
        (CPU, RAY, None, 8 * AHEAD),
        (CPU, RAY, 3, 3),
        (Task(work.add, TaskProfile.CPU, cpus=0.5), RAY, None, 16 * AHEAD),
        (Task(work.add, TaskProfile.CPU, timeout_s=1), RAY, None, 8),
        (Task(work.add, TaskProfile.MEMORY, memory_bytes=3 * GIB), HERE, None, 2),
        (Task(work.add, TaskProfile.MEMORY, memory_bytes=3 * GIB), RAY, None, 2 * AHEAD),
        (Task(work.add, TaskProfile.MEMORY), HERE, None, 4),
        (IO, HERE, None, IO_FIRST),
        (IO, HERE, 5, 5),
    ],
)
def test_first_limit(task: Task, capacity: Capacity, at_once: int | None, limit: int) -> None:
    assert first_estimate(task, capacity, at_once).limit == limit


def test_a_call_that_needs_more_memory_than_there_is_is_refused() -> None:
    with pytest.raises(InvalidInput, match="add needs 9663676416 bytes of memory"):
        first_estimate(Task(work.add, TaskProfile.MEMORY, memory_bytes=9 * GIB), RAY, None)


@given(
    batch_s=st.floats(0, 1),
    call_s=st.floats(0, 10),
    largest=st.integers(0, 1_000),
    share=st.floats(0, 1e6) | st.just(math.inf),
)
def test_a_batch_stays_within_every_bound(batch_s: float, call_s: float, largest: int, share: float) -> None:
    calls = batch_calls(batch_s, call_s, largest, share)
    assert 1 <= calls <= max(1, min(MOST_CALLS, largest * GROWTH))
    assert calls == 1 or (calls * call_s <= batch_s and calls < share + 1)


def test_batches_grow_to_their_duration_and_shrink_towards_the_end() -> None:
    pool = TaskPool(CPU, RAY)
    sizes = []
    for _ in range(4):
        calls = pool.next_calls(left=1_000_000)
        pool.began()
        pool.ended(calls, seconds=calls * 0.001)
        sizes.append(calls)
    assert sizes == [1, 16, 100, 100]
    assert [pool.next_calls(left) for left in (800, 80, 16, 1)] == [50, 5, 1, 1]


@pytest.mark.parametrize(
    "task",
    [Task(work.add, TaskProfile.MEMORY), Task(work.add, TaskProfile.CPU, timeout_s=1), Task(work.add, TaskProfile.IO)],
)
def test_long_memory_bound_and_timed_calls_go_one_by_one(task: Task) -> None:
    pool = TaskPool(task, RAY if task.profile is not TaskProfile.IO else HERE)
    for _ in range(3):
        pool.began()
        pool.ended(1, seconds=0.02)
        assert pool.next_calls(left=1_000) == 1


def settle(task: Task, latency_s: Callable[[int], float], windows: int) -> list[int]:
    """The limits of a pool that is kept full. latency_s: of a call, when that many run at once."""
    now_s, limits = 0.0, []
    pool = TaskPool(task, HERE, clock=lambda: now_s)
    for _ in range(windows):
        while pool.has_room:
            pool.began()
        for _ in range(pool.running):
            now_s += latency_s(pool.running) / pool.running
            pool.ended(1, latency_s(pool.running))
            if pool.has_room:
                pool.began()
        limits.append(pool.limit)
    return limits


def test_the_limit_of_io_rises_where_latency_stays() -> None:
    assert settle(IO, lambda at_once: 0.2, 400)[-1] == IO_CEILING


def test_the_limit_of_io_follows_a_service_that_queues() -> None:
    """The service works on 48 at once; whatever is beyond waits."""
    limits = settle(IO, lambda at_once: 0.2 * max(1, at_once / 48), 400)
    assert min(limits[100:]) >= 48 and max(limits) < 2 * 48


def test_calls_that_end_at_once_run_one_after_another() -> None:
    pool = TaskPool(IO, HERE)
    for seconds, limit in ((2e-6, 1), (0.02, IO_FIRST)):
        pool.began()
        pool.ended(1, seconds)
        assert pool.limit == limit


def test_the_limit_of_cpu_is_fixed() -> None:
    assert set(settle(CPU, lambda at_once: 0.2 * at_once, 50)) == {4}
