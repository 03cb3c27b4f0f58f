"""Runs batches of calls in threads of this process and in Ray workers. `InFlight` holds the running batches."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from jobs.parallel.calls import FinishedCalls, run_calls
from jobs.parallel.pool import Capacity, TaskPool, process_capacity
from jobs.parallel.task import Task, TaskProfile, TaskResult
from serve_app.errors import DeadlineExceeded

CRASH_RETRIES = 3  # of a call whose worker died, perhaps for another reason


@dataclass(eq=False, slots=True)
class CallBatch:
    """items: the item of each call, for its result. ref: Ray's task. finished, error: one of them is set when the batch
    ends. error: the failure of the batch itself, which no call raised."""

    pool: TaskPool
    items: Sequence[Any]
    calls: Sequence[tuple[Any, ...]]
    deadline_s: float = math.inf
    crashes: int = 0
    ref: ObjectRef[Any] | None = None
    finished: FinishedCalls | None = None
    error: Exception | None = None

    def results(self) -> Iterator[TaskResult]:
        results = self.finished.results if self.finished else ((None, self.error),)
        for item, (value, error) in zip(self.items, results, strict=True):
            yield TaskResult(item, value, error)

    @property
    def has_crashed(self) -> bool:
        """Whether the worker or its node died. Otherwise the arguments or the result could not be pickled."""
        return isinstance(self.error, RayError) and not isinstance(self.error, RayTaskError)


class WorkerThreads:
    """One thread for each concurrent batch, reused by later batches. They are daemon threads, so that a hanging call
    does not keep the process from exiting, as a thread of ThreadPoolExecutor would."""

    def __init__(self, ends: SimpleQueue[CallBatch]) -> None:
        self._ends = ends
        self._batches: SimpleQueue[CallBatch | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._started = 0
        self._is_closed = False

    def submit(self, batch: CallBatch) -> None:
        with self._lock:
            is_new = not self._idle
            self._idle -= not is_new
            self._started += is_new
        if is_new:
            threading.Thread(target=self._work, name=f"parallel-{self._started}", daemon=True).start()
        self._batches.put(batch)

    def close(self) -> None:
        """Running calls finish; no further call starts."""
        self._is_closed = True
        for _ in range(self._started):
            self._batches.put(None)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                batch.finished = run_calls(batch.pool.task, batch.calls, lambda: self._is_closed)
            except BaseException as error:  # such as a KeyboardInterrupt raised by a task
                batch.error = RuntimeError(f"{batch.pool.task.name} ended its thread: {error!r}")
            with self._lock:
                self._idle += 1
            self._ends.put(batch)


@dataclass(eq=False)
class InFlight:
    """The running batches. As a context manager it cancels them at its end or at an exception such as Ctrl-C."""

    _batches: set[CallBatch] = field(default_factory=set)
    _remotes: dict[Task, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ends: SimpleQueue[CallBatch] = SimpleQueue()
        self._threads = WorkerThreads(self._ends)

    def __enter__(self) -> InFlight:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.close()
        for batch in self._batches:
            kill(batch)

    def __bool__(self) -> bool:
        return bool(self._batches)

    def submit(self, batch: CallBatch) -> None:
        task = batch.pool.task
        batch.deadline_s = time.monotonic() + task.timeout_s if task.timeout_s is not None else math.inf
        self._batches.add(batch)
        batch.pool.began()
        if not batch.pool.capacity.in_ray:
            self._threads.submit(batch)
            return
        if task not in self._remotes:
            self._remotes[task] = remote(task)
        try:
            batch.ref = self._remotes[task].remote(batch.calls)
        except Exception as error:  # pickling the arguments can raise anything
            batch.error = error
            self._ends.put(batch)
        else:
            batch.ref.future().add_done_callback(partial(self._end, batch))

    def wait(self) -> list[CallBatch]:
        """Blocks until a batch ends or reaches its deadline. Returns the finished batches, perhaps none: a batch that
        fails as a whole is split, and a call whose worker died is repeated."""
        ended: list[CallBatch] = []
        first_s = min(batch.deadline_s for batch in self._batches)
        with suppress(Empty):
            ended.append(self._ends.get(timeout=None if first_s == math.inf else max(0.0, first_s - time.monotonic())))
            while True:
                ended.append(self._ends.get_nowait())
        now_s = time.monotonic()
        ended = [batch for batch in ended if batch in self._batches]  # the others had passed their deadline
        late = [batch for batch in self._batches.difference(ended) if batch.deadline_s <= now_s]
        for batch in late:
            kill(batch)
            batch.error = DeadlineExceeded(f"{batch.pool.task.name} did not end in {batch.pool.task.timeout_s:g} s")
        for batch in (*ended, *late):
            self._batches.remove(batch)
            batch.pool.ended(len(batch.calls) if batch.finished else 0, batch.finished.seconds if batch.finished else 0)
        return [batch for batch in (*ended, *late) if not self._repeated(batch)]

    def _end(self, batch: CallBatch, done: Future[FinishedCalls]) -> None:
        error = done.exception()
        if error is None:
            batch.finished = done.result()
        else:
            batch.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
        self._ends.put(batch)

    def _repeated(self, batch: CallBatch) -> bool:
        """Repeats the calls of a failed batch one by one, so that only the faulty one fails. Returns whether it did."""
        if batch.error and len(batch.calls) > 1:
            for item, args in zip(batch.items, batch.calls, strict=True):
                self.submit(CallBatch(batch.pool, [item], [args]))
            return True
        if batch.has_crashed and batch.crashes < CRASH_RETRIES:
            batch.crashes, batch.error, batch.ref = batch.crashes + 1, None, None
            self.submit(batch)
            return True
        return False


def capacity_for(task: Task) -> Capacity:
    if task.profile is TaskProfile.IO or not ray.is_initialized():
        return process_capacity()
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus = total.get("CPU", 0.0)
    return Capacity(cpus, int(total.get("memory", 0)), in_ray=True) if cpus >= task.cpus else process_capacity()


def remote(task: Task) -> Any:
    """The task as a Ray function. Ray does not retry it, because InFlight does."""

    def work(calls: Sequence[tuple[Any, ...]]) -> FinishedCalls:
        return run_calls(task, calls)

    options: dict[str, Any] = {"num_cpus": task.cpus, "memory": task.memory_bytes or None, "name": task.name}
    return ray.remote(max_retries=0, **options)(work)


def kill(batch: CallBatch) -> None:
    """Kills the Ray worker of the batch. A thread cannot be killed."""
    if batch.ref is not None:
        with suppress(RayError):
            ray.cancel(batch.ref, force=True)
