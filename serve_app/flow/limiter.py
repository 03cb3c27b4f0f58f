"""An adaptive concurrency limit: it learns from latency how many requests may run at once, and refuses any more.

As in Netflix concurrency-limits, there are two parts: `Estimate` is pure and computes the limit from measurements;
`Limiter` counts requests and refuses them. The estimate is Gradient2 (github.com/Netflix/concurrency-limits,
Gradient2Limit and WindowedLimit):

    gradient = clamp(TOLERANCE · baseline latency / recent latency, 0.5, 1)
    limit ← smoothed(limit · gradient + √limit), within floor and ceiling

with one change. Gradient2's baseline is a long average over every window. Under lasting load that average approaches
the queueing latency that the limit itself allows, so the limit climbs to the ceiling. Here a window raises the baseline
only if it shows latency without queueing: at most half of the limit was in use, or no more than the floor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from serve_app.errors import Overloaded

TOLERANCE = 1.5  # recent latency may be this many times the baseline before the limit shrinks
SMOOTHING = 0.2  # weight of the newest target in the limit
BACKOFF = 0.9  # the limit is multiplied by this after a window in which a later stage refused work
BASELINE_WEIGHT = 2 / (300 + 1)  # exponential average over about 300 windows
BASELINE_DECAY = 0.9  # per window whose latency is less than half of the baseline
WINDOW_S = 0.25
WINDOW_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """floor: the lowest limit, high enough that micro-batches fill. If floor equals ceiling, the limit is fixed."""

    floor: int
    ceiling: int
    value: float
    baseline_s: float = 0.0  # 0 until the first window
    recent_s: float = 0.0

    @classmethod
    def start(cls, floor: int, ceiling: int) -> Estimate:
        return cls(floor, ceiling, float(floor))

    @property
    def limit(self) -> int:
        return int(self.value)

    def update(self, latency_s: float, in_flight: int, dropped: bool = False) -> Estimate:
        """The estimate after one window. latency_s: mean latency of its requests, above 0. in_flight: most requests at
        once. dropped: whether a later stage refused work."""
        unqueued = in_flight <= max(self.floor, self.value / 2)
        baseline_s = self._baseline_after(latency_s, unqueued)
        value = self.value
        if dropped:
            value *= BACKOFF
        elif in_flight >= value / 2:  # else there is no evidence for a higher limit, and no need
            gradient = min(max(TOLERANCE * baseline_s / latency_s, 0.5), 1.0)
            target = value * gradient + math.sqrt(value)
            value += SMOOTHING * (target - value)
        value = min(max(value, self.floor), self.ceiling)
        return replace(self, value=value, baseline_s=baseline_s, recent_s=latency_s)

    def _baseline_after(self, latency_s: float, unqueued: bool) -> float:
        if not self.baseline_s:
            return latency_s
        baseline_s = self.baseline_s
        if unqueued or latency_s < baseline_s:
            baseline_s += BASELINE_WEIGHT * (latency_s - baseline_s)
        if baseline_s > 2 * latency_s:  # overload or a cold start is over
            baseline_s *= BASELINE_DECAY
        return baseline_s


@dataclass(slots=True)
class LimitWindow:
    """Measurements since `began_at_s`."""

    began_at_s: float
    samples: int = 0
    latency_sum_s: float = 0.0
    most_in_flight: int = 0
    dropped: bool = False

    def is_complete(self, now_s: float) -> bool:
        return self.samples >= WINDOW_SAMPLES and now_s - self.began_at_s >= WINDOW_S


class Limiter:
    """Enforces an Estimate for requests of one kind. Belongs to one event loop. clock: monotonic, in seconds."""

    def __init__(self, kind: str, *, floor: int, ceiling: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._clock = clock
        self._estimate = Estimate.start(floor, ceiling)
        self._window = LimitWindow(clock())
        self._in_flight = 0

    @property
    def limit(self) -> int:
        """The current limit, in slots."""
        return self._estimate.limit

    @property
    def in_flight(self) -> int:
        """Slots in use."""
        return self._in_flight

    @property
    def load(self) -> float:
        """Fraction of the slots in use; above 1 if the limit has just shrunk."""
        return self._in_flight / self.limit

    def require_room(self, slots: int = 1) -> None:
        """Raises Overloaded if `admit` would, without taking a slot."""
        if self._in_flight and self._in_flight + slots > self.limit:
            raise Overloaded(
                f"{self._in_flight} of {self.limit} {self._kind} are under way; try again later",
                retry_after_s=self._estimate.recent_s,
            )

    @contextmanager
    def admit(self, slots: int = 1) -> Iterator[None]:
        """A context for the work of one request. Never waits. slots: the request's weight; a request heavier than the
        limit runs alone. Raises Overloaded, with the recent latency as the time to retry after.

        Work that raises Overloaded shrinks the limit. Work that fails otherwise (an invalid request, a client that
        left, a deadline) gives only a lower bound of the latency, so it counts only if it is above the baseline.
        """
        self.require_room(slots)
        self._in_flight += slots
        in_flight, started_at_s = self._in_flight, self._clock()
        try:
            yield
        except Overloaded:
            self._window.dropped = True
            self._measure(started_at_s, in_flight)
            raise
        except BaseException:
            if self._clock() - started_at_s > self._estimate.baseline_s:
                self._measure(started_at_s, in_flight)
            raise
        else:
            self._measure(started_at_s, in_flight)
        finally:
            self._in_flight -= slots

    def _measure(self, started_at_s: float, in_flight: int) -> None:
        now_s, window = self._clock(), self._window
        window.samples += 1
        window.latency_sum_s += now_s - started_at_s
        window.most_in_flight = max(window.most_in_flight, in_flight)
        if window.is_complete(now_s):
            latency_s = max(window.latency_sum_s / window.samples, 1e-6)
            self._estimate = self._estimate.update(latency_s, window.most_in_flight, window.dropped)
            self._window = LimitWindow(now_s)
