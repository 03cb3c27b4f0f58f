"""How many tasks at once, found while they run, by what throughput they reach and what memory they take.

Hill climbing on measured throughput, as in thread pools (Hellerstein, Morrison and Eilebrecht, "Optimizing concurrency
levels in the .NET ThreadPool", ACM SIGMETRICS Performance Evaluation Review, 2010), after a start like TCP's: the
number doubles as long as that pays. Then it is held, and every HOLD_WINDOWS a step up and, if that brings nothing, a
step down is tried. Among numbers that reach the same, the lowest is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

DOUBLING = 2.0
PAYS = 1.2  # the least that a doubling must bring
STEP = 1.25
GAIN = 1.05  # the least that a step up must bring
LOSS = 0.98  # what a step down may cost
HOLD_WINDOWS = 8
SMOOTHING = 0.3  # of the rate while it is held
BACKOFF = 0.5  # when memory is over its limit


class Phase(StrEnum):
    START = "start"  # doubling
    HOLD = "hold"
    UP = "up"  # trying
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """limit: tasks at once now. kept, kept_per_s: the number that was best and the rate it had; 0 before the first
    window."""

    floor: int
    ceiling: int
    limit: int
    phase: Phase = Phase.START
    kept: int = 0
    kept_per_s: float = 0.0
    held: int = 0

    @classmethod
    def start(cls, first: int, ceiling: int, floor: int = 1) -> Concurrency:
        limit = min(max(first, floor), ceiling)
        return cls(floor, ceiling, limit, Phase.START if limit < ceiling else Phase.HOLD, kept=limit)

    def after_window(self, rate_per_s: float) -> Concurrency:
        """rate_per_s: tasks done while `limit` of them ran all the time."""
        if not self.kept_per_s:
            return self._try(DOUBLING if self.phase is Phase.START else 1.0, self.phase, self.limit, rate_per_s)
        if self.phase is Phase.HOLD:
            return self._held(rate_per_s)
        gain = rate_per_s / self.kept_per_s
        if self.phase is Phase.START and gain >= PAYS:
            return self._try(DOUBLING, Phase.START, self.limit, rate_per_s)
        if self.phase is Phase.UP and gain < GAIN:
            return self._try(1 / STEP, Phase.DOWN)
        is_better = gain >= (LOSS if self.phase is Phase.DOWN else GAIN)
        return self._hold(self.limit, rate_per_s) if is_better else self._hold()

    def _held(self, rate_per_s: float) -> Concurrency:
        kept_per_s = self.kept_per_s + SMOOTHING * (rate_per_s - self.kept_per_s)
        if self.held + 1 < HOLD_WINDOWS:
            return replace(self, kept_per_s=kept_per_s, held=self.held + 1)
        if self.limit < self.ceiling:
            return self._try(STEP, Phase.UP, self.limit, kept_per_s)
        return self._try(1 / STEP, Phase.DOWN, self.limit, kept_per_s)

    def over_memory(self) -> Concurrency:
        """Half of it from now on, and never more again."""
        limit = max(self.floor, int(self.limit * BACKOFF))
        return replace(self, ceiling=limit, limit=limit, phase=Phase.HOLD, kept=limit, kept_per_s=0.0, held=0)

    def _try(self, factor: float, phase: Phase, kept: int = 0, kept_per_s: float = 0.0) -> Concurrency:
        """Another number; where there is none, the one that is kept."""
        kept, kept_per_s = kept or self.kept, kept_per_s or self.kept_per_s
        wanted = math.ceil(kept * factor) if factor > 1 else math.floor(kept * factor)
        limit = min(max(wanted, self.floor), self.ceiling)
        tried = replace(self, limit=limit, phase=phase, kept=kept, kept_per_s=kept_per_s, held=0)
        return tried if limit != kept else tried._hold()

    def _hold(self, kept: int = 0, kept_per_s: float = 0.0) -> Concurrency:
        kept, kept_per_s = kept or self.kept, kept_per_s or self.kept_per_s
        return replace(self, limit=kept, phase=Phase.HOLD, kept=kept, kept_per_s=kept_per_s, held=0)


@dataclass(slots=True)
class Window:
    """Counts what is done under one limit. What had begun under the former one is passed over."""

    began_s: float
    passed_over: int
    wanted: int
    least_s: float
    done: int = 0

    @classmethod
    def of(cls, limit: int, now_s: float, least_s: float = 0.05) -> Window:
        return cls(now_s, passed_over=limit, wanted=max(8, 2 * limit), least_s=least_s)

    def count(self, tasks: int, now_s: float) -> float | None:
        """The rate per second, when enough is done."""
        if self.passed_over > 0:
            self.passed_over -= tasks
            self.began_s = now_s
            return None
        self.done += tasks
        lasted_s = now_s - self.began_s
        return self.done / lasted_s if self.done >= self.wanted and lasted_s >= self.least_s else None
