"""Decides how many calls of a task run at once, and how many calls make a batch.

CPU and memory bound tasks have a fixed limit. The limit of I/O bound tasks follows the latency of their calls, with the
same estimate that limits the requests of the service (`serve_app.flow.limiter`). A batch is long enough to make its
overhead small. Towards the end, batches shrink to a fraction of the remaining calls, so that all workers end together
(guided self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers, 1987).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from jobs.parallel.task import Task, TaskProfile
from serve_app.control_groups import memory_limit_bytes, usable_cpus
from serve_app.errors import InvalidInput
from serve_app.flow.limiter import Estimate

IO_FLOOR, IO_FIRST, IO_CEILING = 8, 32, 256  # concurrent calls; IO_FIRST is the size limit of Python's thread pools
AHEAD = 2  # batches for each CPU: one runs while the next one travels
WORKER_BATCH_S, THREAD_BATCH_S = 0.1, 0.005  # about fifty times the cost of submitting a batch
TINY_S = 50e-6  # a shorter call takes less time than passing it to another thread
MOST_CALLS = 500  # in a batch
GROWTH = 16  # from one batch to the next, at most
NEWEST_SHARE = 0.5  # weight of the newest batch in the mean duration of a call
WINDOW_S = 0.1  # shortest time between two changes of the limit
MEMORY_SHARE = 0.5  # of the free memory, for tasks in this process


@dataclass(frozen=True, slots=True)
class Capacity:
    """cpus, memory_bytes: of the Ray cluster, or of this process if in_ray is false."""

    cpus: float
    memory_bytes: int
    in_ray: bool


def first_estimate(task: Task, capacity: Capacity, at_once: int | None) -> Estimate:
    """at_once: most concurrent batches of calls; None for as many as the capacity allows. Raises InvalidInput if one
    call needs more memory than there is."""
    if task.profile is TaskProfile.IO:
        ceiling = at_once or IO_CEILING
        return Estimate(min(IO_FLOOR, ceiling), ceiling, float(min(IO_FIRST, ceiling)))
    if task.memory_bytes > capacity.memory_bytes:
        raise InvalidInput(
            f"one call of {task.name} needs {task.memory_bytes} bytes of memory; {capacity.memory_bytes} are free"
        )
    fitting = capacity.memory_bytes // task.memory_bytes if task.memory_bytes else math.inf
    running = max(1, int(min(capacity.cpus / task.cpus, fitting)))
    ahead = AHEAD if capacity.in_ray and task.timeout_s is None else 1  # because the timeout includes the wait
    limit = min(running * ahead, at_once or running * ahead)
    return Estimate.start(limit, limit)


def batch_calls(batch_s: float, call_s: float, largest: int, share: float) -> int:
    """How many calls the next batch should have. batch_s: how long it should take. call_s: mean duration of a call.
    largest: calls in the largest batch so far. share: remaining calls for each concurrent batch, inf if unknown."""
    most = min(MOST_CALLS, largest * GROWTH, math.ceil(min(share, MOST_CALLS)))
    return max(1, min(int(batch_s / max(call_s, 1e-7)), most))


@dataclass(slots=True)
class Latencies:
    """Measurements since `began_s`."""

    began_s: float
    calls: int = 0
    sum_s: float = 0.0
    most_at_once: int = 0


class TaskPool:
    """Limits the concurrent batches of one task. clock: monotonic, in seconds."""

    def __init__(
        self,
        task: Task,
        capacity: Capacity,
        at_once: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self.capacity = task, capacity
        self.running = 0
        self._estimate = first_estimate(task, capacity, at_once)
        self._clock = clock
        self._latencies = Latencies(clock())
        self._largest, self._call_s = 0, 0.0
        is_single = task.profile is TaskProfile.MEMORY or task.timeout_s is not None
        self._batch_s = 0.0 if is_single else WORKER_BATCH_S if capacity.in_ray else THREAD_BATCH_S

    @property
    def limit(self) -> int:
        """Most concurrent batches. Very short calls run one after another, because threads would only take turns."""
        is_tiny = not self.capacity.in_ray and self._largest and self._call_s < TINY_S
        return 1 if is_tiny else self._estimate.limit

    @property
    def has_room(self) -> bool:
        return self.running < self.limit

    def next_calls(self, left: float) -> int:
        """How many calls the next batch should have. left: number of remaining calls, inf if unknown."""
        return batch_calls(self._batch_s, self._call_s, self._largest, left / self.limit)

    def began(self) -> None:
        self.running += 1
        self._latencies.most_at_once = max(self._latencies.most_at_once, self.running)

    def ended(self, calls: int, seconds: float) -> None:
        """calls: number of calls in the batch that ended; 0 if their duration is unknown."""
        self.running -= 1
        if not calls:
            return
        share = NEWEST_SHARE if self._largest else 1.0
        self._call_s += share * (seconds / calls - self._call_s)
        self._largest = max(self._largest, calls)
        seen = self._latencies
        seen.calls += calls
        seen.sum_s += seconds
        if seen.calls >= self.limit and (now_s := self._clock()) - seen.began_s >= WINDOW_S:
            self._estimate = self._estimate.update(max(seen.sum_s / seen.calls, 1e-6), seen.most_at_once)
            self._latencies = Latencies(now_s, most_at_once=self.running)


def process_capacity() -> Capacity:
    free_bytes = min(psutil.virtual_memory().available, memory_limit_bytes() or math.inf)
    return Capacity(usable_cpus(), int(free_bytes * MEMORY_SHARE), in_ray=False)
