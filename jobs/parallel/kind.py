"""The tasks of one kind while a run goes on: those that wait, those that run, and what was learned of them."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

from jobs.parallel.adaptive import Concurrency, Window
from jobs.parallel.calls import Measured
from jobs.parallel.places import Attempt, Batch, pickled_bytes
from jobs.parallel.plan import FIRST_MOST, Plan, Resources, batch_size, plan
from jobs.parallel.profile import Profile
from jobs.parallel.sampling import GilProbe, Sample
from jobs.parallel.task import Place

AHEAD_S = 0.5  # a batch that is shorter has its successor wait at the worker


class Kind:
    def __init__(self, place: Place | None, has_timeout: bool) -> None:
        self.place = place
        self.plan: Plan | None = None
        self.profile: Profile | None = None
        self.running: set[Batch] = set()
        self.probe: GilProbe | None = None  # while it is sampled
        self._has_timeout = has_timeout
        self._sample = Sample()
        self._concurrency: Concurrency
        self._window: Window
        self._ready: list[tuple[float, int, Attempt]] = []
        self._arrivals = itertools.count()

    def push(self, attempt: Attempt, rank: float) -> None:
        heapq.heappush(self._ready, (-math.inf if attempt.alone else -rank, next(self._arrivals), attempt))

    def rank_by(self, rank: Callable[[str], float]) -> None:
        """Orders those that wait anew."""
        waiting, self._ready = self._ready, []
        for _, _, attempt in waiting:
            self.push(attempt, rank(attempt.task.id))

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def first_rank(self) -> float:
        return -self._ready[0][0]

    @property
    def wanted(self) -> int:
        """How many tasks should be at hand."""
        return 0 if self.plan is None else 2 * self.plan.batch_tasks * self._slots

    @property
    def threads(self) -> int:
        """Of one worker's batch."""
        assert self.plan is not None
        return math.ceil(self._concurrency.limit / self.plan.processes)

    def next_attempts(self, coming: float) -> list[Attempt]:
        """Those of the next batch, if one may begin now. coming: how many tasks may come besides those ready."""
        if not self._ready or len(self.running) >= self._most_batches:
            return []
        size = (
            self._sample.next_size() if self.plan is None else batch_size(self.plan, self.ready + coming, self._slots)
        )
        taken = [heapq.heappop(self._ready)[2]]
        if self._has_timeout or taken[0].alone:
            return taken
        while self._ready and len(taken) < size and not self._ready[0][2].alone:
            taken.append(heapq.heappop(self._ready)[2])
        return taken

    @property
    def _slots(self) -> int:
        """Batches that run at once."""
        if self.plan is None:
            return 1
        return self._concurrency.limit if self.plan.place is Place.THREADS else self.plan.processes

    @property
    def _most_batches(self) -> int:
        """And those that wait at a worker."""
        if self.plan is None or self.plan.place is Place.THREADS or self._has_timeout or self.profile is None:
            return self._slots
        batch_s = self.plan.batch_tasks * self.profile.wall_s / max(1, self.threads)
        return self._slots * (2 if batch_s < AHEAD_S else 1)

    def decide(self, profile: Profile, resources: Resources, left: float, now_s: float) -> bool:
        """Plans with what is known now. Whether they run elsewhere from now on."""
        former = self.plan
        reached = max(FIRST_MOST, self._concurrency.limit) if former else FIRST_MOST
        place = former.place if former else None
        new = plan(profile, resources, left, place=self.place, current=place, reached=reached)
        self.profile, self.plan = profile, new
        is_moved = place is not new.place
        if former is None or is_moved or not (former.adapts or former.concurrency == new.concurrency):
            floor = new.processes if new.adapts else new.concurrency
            self._concurrency = Concurrency.start(new.concurrency, new.most, floor)
        self._window = Window.of(self._concurrency.limit, now_s)
        return is_moved

    def sampled(self) -> Profile | None:
        """The profile, as soon as it can be told from what is done and what runs."""
        running = next(iter(self.running), None)
        held_ratio = self.probe.held_ratio if self.probe else 1.0
        if running is None:
            return self._sample.verdict(held_ratio)
        if running.clock is None:  # it has not begun
            return None
        return self._sample.verdict(held_ratio, *running.clock.read())

    def measured(self, batch: Batch, measured: Measured, now_s: float) -> Profile | None:
        """Counts a batch; a new profile where it is time to decide again."""
        if self.profile is None:
            self._sample = self._sample.after(measured)
            return None
        self.profile = self.profile.after(measured)
        if not self._ready:  # fewer run than may: says nothing of the limit
            self._window = Window.of(self._concurrency.limit, now_s)
            return None
        rate_per_s = self._window.count(len(measured.ran), now_s)
        if rate_per_s is None:
            return None
        limit = self._concurrency.limit
        self._concurrency = self._concurrency.after_window(rate_per_s)
        is_here = self.plan is not None and self.plan.place is Place.THREADS
        return self.profile.after_window(rate_per_s, limit) if is_here else self.profile

    def over_memory(self, now_s: float) -> None:
        """Fewer at once from now on."""
        if self.plan is not None:
            self._concurrency = self._concurrency.over_memory()
            self._window = Window.of(self._concurrency.limit, now_s)


def with_sizes(profile: Profile, batch: Batch, measured: Measured | None) -> Profile:
    """With what of a task would travel to a worker and back."""
    first = batch.attempts[0]
    sent = pickled_bytes((first.task.function, first.args))
    result = pickled_bytes(measured.ran[0].value) if measured and measured.ran else 0
    if sent is None or result is None:
        return replace(profile, portable=False)
    peak_bytes = max(profile.peak_bytes, measured.peak_bytes if measured else 0)
    return replace(profile, sent_bytes=sent, result_bytes=result, peak_bytes=peak_bytes)
