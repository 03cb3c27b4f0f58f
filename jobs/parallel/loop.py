"""The loop: takes tasks that may begin, hands batches to threads and workers, gives outcomes as they come."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

from jobs.parallel.calls import Measured, rss_bytes
from jobs.parallel.checkpoint import Checkpoint
from jobs.parallel.graph import Graph, Source
from jobs.parallel.kind import Kind, with_sizes
from jobs.parallel.places import Attempt, Batch, End, Threads, Workers, has_cluster, pickled_bytes, resources
from jobs.parallel.profile import Profile
from jobs.parallel.retries import Retries, after_crash, after_error
from jobs.parallel.sampling import GilProbe
from jobs.parallel.task import Outcome, Place, Status, Task, timed_out
from jobs.parallel.values import Values
from serve_app.errors import InvalidInput

log = logging.getLogger(__name__)

READ_AHEAD = 1_024  # tasks taken from a stream beyond those that are about to run
FEW = 4  # of one kind in a graph: not worth a sample
SAMPLE_TICK_S, TICK_S = 0.005, 0.25
MEMORY_PERIOD_S = 0.5
UNKNOWN = Profile(wall_s=1.0, cpu_s=1.0, tasks=0)  # of tasks that may not be sampled


class Run:
    """Of tasks, from the first to the last outcome."""

    def __init__(
        self,
        source: Source,
        graph: Graph | None,
        checkpoint: Checkpoint | None,
        keys: dict[str, str],
        memory_bytes: int | None,
    ) -> None:
        self._source, self._graph = source, graph
        self._checkpoint, self._keys = checkpoint, keys
        self._memory_bytes = memory_bytes
        self._resources = resources(memory_bytes)
        self._ends: SimpleQueue[End] = SimpleQueue()
        self._threads = Threads(self._ends)
        self._workers = Workers(self._ends) if has_cluster() else None
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._values = Values(graph.needs() if graph else Counter())
        self._retries = Retries()
        self._base_bytes = rss_bytes()
        self._memory_at_s = time.perf_counter()

    def outcomes(self) -> Iterator[Outcome]:
        try:
            while True:
                yield from self._feed()
                self._dispatch()
                if not self._retries and not any(kind.running or kind.ready for kind in self._kinds.values()):
                    return
                yield from self._await_end()
                yield from self._end_late()
                self._watch_memory()
        finally:
            self._close()

    # What comes in

    def _feed(self) -> Iterator[Outcome]:
        for attempt in self._retries.due(time.perf_counter()):
            self._push(attempt)
        while True:
            at_hand = sum(kind.ready for kind in self._kinds.values())
            most = READ_AHEAD + sum(kind.wanted for kind in self._kinds.values()) - at_hand
            tasks = self._source.take(most) if most > 0 else []
            if not tasks:
                return
            for task in tasks:
                args = (*task.args, *self._values.take(task.needs))
                known, value = self._checkpoint.load(self._keys[task.id]) if self._checkpoint else (False, None)
                if known:
                    yield from self._done(Outcome(task.id, value=value, attempts=0, resumed=True))
                else:
                    self._push(Attempt(task, args))

    def _push(self, attempt: Attempt) -> None:
        task = attempt.task
        if (kind := self._kinds.get(task.kind)) is None:
            kind = self._kinds[task.kind] = Kind(self._place(attempt), task.timeout_s is not None)
            if kind.place is Place.WORKERS:
                self._decide(kind, UNKNOWN)
        kind.push(attempt, self._source.rank(task.id))

    def _place(self, attempt: Attempt) -> Place | None:
        """Where its kind has to run. Only a worker can be ended, and few tasks, which may be long, are in nobody's way
        there."""
        task, has_workers = attempt.task, self._workers and self._resources.worker_cpus
        if task.place is Place.WORKERS and not self._workers:
            raise InvalidInput(f"{task.id} is to run in a worker: connect to Ray before")
        is_for_workers = task.timeout_s is not None or (self._graph and self._graph.of_kind(task.kind) <= FEW)
        if task.place is None and has_workers and is_for_workers and pickled_bytes((task.function, attempt.args)):
            return Place.WORKERS
        return task.place

    # What goes out

    def _dispatch(self) -> None:
        for kind in sorted((kind for kind in self._kinds.values() if kind.ready), key=lambda kind: -kind.first_rank):
            if kind.plan is None and not self._may_sample(kind):
                continue
            while attempts := kind.next_attempts(self._source.coming):
                self._submit(kind, attempts)

    def _may_sample(self, kind: Kind) -> bool:
        """One kind at a time, so that it is measured and not its neighbours; none that waits for its workers to end."""
        for other in self._kinds.values():
            if other.probe and not other.running and not other.ready:
                other.probe.end()
                other.probe = None
        if kind.probe is None and not kind.running and not any(other.probe for other in self._kinds.values()):
            kind.probe = GilProbe().start()
        return kind.probe is not None

    def _submit(self, kind: Kind, attempts: list[Attempt]) -> None:
        now_s = time.perf_counter()
        place = kind.plan.place if kind.plan else Place.THREADS
        timeout_s = attempts[0].task.timeout_s
        batch = Batch(attempts, place, now_s + timeout_s if timeout_s is not None else float("inf"))
        kind.running.add(batch)
        for attempt in attempts:
            attempt.begun += 1
        if place is Place.WORKERS and self._workers and kind.plan:
            self._workers.submit(batch, kind.threads)
        else:
            self._threads.submit(batch)

    # What comes back

    def _await_end(self) -> Iterator[Outcome]:
        now_s = time.perf_counter()
        sampled = [kind for kind in self._kinds.values() if kind.probe]
        wakes_s = [now_s + (SAMPLE_TICK_S if sampled else TICK_S), self._retries.next_s]
        wakes_s += [batch.deadline_s for kind in self._kinds.values() for batch in kind.running]
        with suppress(Empty):
            end = self._ends.get(timeout=max(0.0, min(wakes_s) - now_s))
            yield from self._ended(end)
            while True:
                yield from self._ended(self._ends.get_nowait())
        for kind in sampled:
            if kind.plan is None and (profile := kind.sampled()):
                self._decide(kind, with_sizes(profile, next(iter(kind.running)), None) if kind.running else profile)

    def _ended(self, end: End) -> Iterator[Outcome]:
        kind = self._kinds[end.batch.attempts[0].task.kind]
        if end.batch not in kind.running:
            return  # it was given up
        kind.running.remove(end.batch)
        if end.measured is None:
            yield from self._lost(end)
            return
        for attempt, ran in zip(end.batch.attempts, end.measured.ran, strict=False):
            if ran.error is None:
                yield from self._done(Outcome(attempt.task.id, value=ran.value, attempts=attempt.begun))
            else:
                yield from self._failed(attempt, ran.error)
        self._learn(kind, end.batch, end.measured)

    def _lost(self, end: End) -> Iterator[Outcome]:
        """A batch without any result. Its tasks are tried again one by one, so that only one is to blame; here, where
        nothing but the way to a worker and back was, and so is all that is still to come of their kind. What is late
        then is a thread, left to itself."""
        assert isinstance(end.error, Exception)
        attempts = end.batch.attempts
        kind = self._kinds[attempts[0].task.kind]
        is_only_sent = not end.is_crash and attempts[0].task.place is None and end.batch.place is Place.WORKERS
        if is_only_sent and kind.profile:
            kind.place = Place.THREADS
            if kind.profile is UNKNOWN:
                kind.plan = kind.profile = None  # to be sampled, as it would be without workers
            else:
                self._decide(kind, kind.profile)
        for attempt in attempts:
            attempt.alone = True
            if len(attempts) > 1 or is_only_sent or (end.is_crash and after_crash(attempt)):
                self._retries.put(attempt, time.perf_counter())
            else:
                yield from self._gone(failed(attempt, end.error))

    def _end_late(self) -> Iterator[Outcome]:
        now_s = time.perf_counter()
        for kind in self._kinds.values():
            for batch in [batch for batch in kind.running if batch.deadline_s <= now_s]:
                kind.running.remove(batch)
                if self._workers:
                    self._workers.cancel(batch)
                for attempt in batch.attempts:
                    yield from self._failed(attempt, timed_out(attempt.task))

    def _done(self, outcome: Outcome) -> Iterator[Outcome]:
        if self._checkpoint and not outcome.resumed:
            try:
                self._checkpoint.save(self._keys[outcome.id], outcome.value)
            except InvalidInput as error:
                yield from self._gone(Outcome(outcome.id, Status.FAILED, error=error, attempts=outcome.attempts))
                return
        self._values.keep(outcome.id, outcome.value)
        self._source.done(outcome.id)
        yield outcome

    def _failed(self, attempt: Attempt, error: Exception) -> Iterator[Outcome]:
        if after_error(attempt):
            self._retries.put(attempt, time.perf_counter())
        else:
            yield from self._gone(failed(attempt, error))

    def _gone(self, outcome: Outcome) -> Iterator[Outcome]:
        yield outcome
        for task in self._source.failed(outcome.id):
            self._values.release(task.needs)
            yield Outcome(task.id, Status.SKIPPED, because=outcome.id, attempts=0)

    # What is learned

    def _learn(self, kind: Kind, batch: Batch, measured: Measured) -> None:
        now_s = time.perf_counter()
        profile = kind.measured(batch, measured, now_s)
        if kind.plan is None and (verdict := kind.sampled()):
            profile = with_sizes(verdict, batch, measured)
        if profile:
            self._decide(kind, profile)

    def _decide(self, kind: Kind, profile: Profile) -> None:
        if kind.probe:
            kind.probe.end()
            kind.probe = None
        if self._workers and not self._resources.worker_cpus:
            self._resources = resources(self._memory_bytes)
        if kind.decide(profile, self._resources, self._source.left, time.perf_counter()):
            log.info("%s", kind.plan)
            if self._graph:
                self._graph.rank_by(self._cost_s)
                for each in self._kinds.values():
                    each.rank_by(self._graph.rank)

    def _cost_s(self, task: Task) -> float:
        kind = self._kinds.get(task.kind)
        return task.cost_s or (kind.profile.wall_s if kind and kind.profile else UNKNOWN.wall_s)

    def _watch_memory(self) -> None:
        now_s = time.perf_counter()
        if now_s - self._memory_at_s < MEMORY_PERIOD_S:
            return
        self._memory_at_s = now_s
        if rss_bytes() - self._base_bytes > self._resources.memory_bytes:
            for kind in self._kinds.values():
                if kind.plan and kind.plan.place is Place.THREADS:
                    kind.over_memory(now_s)

    def _close(self) -> None:
        self._threads.close()
        for kind in self._kinds.values():
            if kind.probe:
                kind.probe.end()
            for batch in kind.running:
                if self._workers:
                    self._workers.cancel(batch)


def failed(attempt: Attempt, error: Exception) -> Outcome:
    return Outcome(attempt.task.id, Status.FAILED, error=error, attempts=attempt.begun)
