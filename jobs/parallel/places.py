"""Where batches run: threads of this process, and workers of the Ray cluster. Both tell of their ends in one queue."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import psutil
import ray
from ray import ObjectRef, cloudpickle
from ray.exceptions import RayError, RayTaskError

from jobs.parallel.calls import Call, Measured, run_calls, run_sent
from jobs.parallel.clocks import ThreadClock
from jobs.parallel.plan import Resources
from jobs.parallel.task import Place, Task
from serve_app.control_groups import memory_limit_bytes, usable_cpus

MEMORY_SHARE = 0.5  # of what is free, that tasks in this process may take
REMOTE_CALLS = ray.remote(num_cpus=1, max_retries=0)(run_sent)


@dataclass(eq=False, slots=True)
class Attempt:
    """A task on its way. args: with the values that it needs. begun: how often it was handed out; errors and crashes:
    what came of it, where it alone can be to blame. alone: in no batch with others, one of which may have killed its
    worker."""

    task: Task
    args: tuple[Any, ...]
    begun: int = 0
    errors: int = 0
    crashes: int = 0
    alone: bool = False


@dataclass(eq=False, slots=True)
class Batch:
    """deadline_s: inf for none. clock: of its thread since it began, once it runs in one of this process. ref: of Ray's
    task."""

    attempts: list[Attempt]
    place: Place
    deadline_s: float
    clock: ThreadClock | None = None
    ref: ObjectRef[Any] | None = None

    @property
    def calls(self) -> list[Call]:
        return [(each.task.function, each.args) for each in self.attempts]


@dataclass(frozen=True, slots=True)
class End:
    """Of a batch: what was measured, or the error that no call of it raised."""

    batch: Batch
    measured: Measured | None = None
    error: BaseException | None = None

    @property
    def is_crash(self) -> bool:
        """Its worker died, or its node; else what it was given or gave back is what does not travel."""
        return isinstance(self.error, RayError) and not isinstance(self.error, RayTaskError)


class Threads:
    """As many as there are batches at once, kept for the next. Daemons: one that hangs does not hold up the end of the
    process."""

    def __init__(self, ends: SimpleQueue[End]) -> None:
        self._ends = ends
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._started = 0
        self._closed = False

    def submit(self, batch: Batch) -> None:
        with self._lock:
            is_new = not self._idle
            self._idle -= not is_new
            self._started += is_new
        if is_new:
            threading.Thread(target=self._work, name=f"parallel-{self._started}", daemon=True).start()
        self._batches.put(batch)

    def close(self) -> None:
        """What runs now goes on to the end of its call and no further."""
        self._closed = True
        for _ in range(self._started):
            self._batches.put(None)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            batch.clock = ThreadClock(threading.get_native_id())
            try:
                end = End(batch, run_calls(batch.calls, stopped=lambda: self._closed))
            except BaseException as error:  # such as KeyboardInterrupt, raised by a task
                end = End(batch, error=RuntimeError(f"the task ended its thread: {error!r}"))
            with self._lock:
                self._idle += 1
            self._ends.put(end)


class Workers:
    """Tasks of Ray, of one CPU each. Ray itself repeats none."""

    def __init__(self, ends: SimpleQueue[End]) -> None:
        self._ends = ends

    def submit(self, batch: Batch, threads: int) -> None:
        try:
            batch.ref = REMOTE_CALLS.remote((batch.calls, threads))
        except Exception as error:  # whatever pickling raises
            self._ends.put(End(batch, error=error))
            return
        batch.ref.future().add_done_callback(partial(self._tell, batch))

    def _tell(self, batch: Batch, done: Future[Measured]) -> None:
        error = done.exception()
        self._ends.put(End(batch, error=error) if error else End(batch, done.result()))

    def cancel(self, batch: Batch) -> None:
        """Ends its worker."""
        if batch.ref is not None:
            with suppress(RayError):
                ray.cancel(batch.ref, force=True)


def has_cluster() -> bool:
    return bool(ray.is_initialized())


def resources(memory_bytes: int | None) -> Resources:
    """As they are now. memory_bytes: None for a share of what is free. All of the cluster's CPUs count, unless none is
    free: what others hold for a while is waited for, but a cluster that is full may stay so."""
    free_bytes = min(psutil.virtual_memory().available, memory_limit_bytes() or float("inf"))
    cpus, worker_bytes = 0.0, 0
    if has_cluster() and ray.available_resources().get("CPU", 0) >= 1:  # type: ignore[no-untyped-call]
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus, worker_bytes = total["CPU"], int(total.get("memory", 0))
    return Resources(usable_cpus(), cpus, memory_bytes or int(free_bytes * MEMORY_SHARE), worker_bytes)


def pickled_bytes(value: object) -> int | None:
    """How much of it travels to another process; None if it cannot."""
    buffers: list[Any] = []
    try:
        content: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)  # type: ignore[no-untyped-call]
    except Exception:  # an object's own
        return None
    return len(content) + sum(buffer.raw().nbytes for buffer in buffers)
