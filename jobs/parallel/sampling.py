"""The first tasks of a kind run one after another in a thread of this process and are watched: do they compute or wait,
and do they hold Python's global lock? They are tasks like all others; only how many run at once is held back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Self

from jobs.parallel.calls import Measured
from jobs.parallel.clocks import CallClock
from jobs.parallel.plan import THREAD_BATCH_S
from jobs.parallel.profile import LEAST_S, Profile

WAITS_AFTER_S = 0.01  # of whole tasks it can be told so soon that they wait
COMPUTES_AFTER_S = 0.03
UNFINISHED_AFTER_S = 0.1  # of one that is not done: it may wait first and compute then
WAITING_CPU_RATIO = 0.5
GROWTH = 8  # of a sample, until it lasts COMPUTES_AFTER_S
PROBE_PERIOD_S = 0.0005
LATE_S = 0.0005  # a thread that finds the lock taken waits for 5 ms: sys.getswitchinterval


class GilProbe:
    """For what part of the time the global lock is taken, as a thread finds it that wakes up and wants it. The time
    that it has to wait is counted, so that long holds weigh as much as they last; not that for which the system had no
    CPU for it."""

    def __init__(self) -> None:
        self._wall_s = self._late_s = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._watch, name="gil-probe", daemon=True)

    @property
    def held_ratio(self) -> float:
        return self._late_s / self._wall_s if self._wall_s else 1.0

    def _watch(self) -> None:
        clock = CallClock()
        while not self._ended:
            before = clock.start()
            time.sleep(PROBE_PERIOD_S)
            wall_s, _ = clock.stop(before)
            late_s = wall_s - PROBE_PERIOD_S
            self._late_s += late_s if late_s > LATE_S else 0.0
            self._wall_s += wall_s

    def start(self) -> Self:
        self._thread.start()
        return self

    def end(self) -> None:
        """Within one period."""
        self._ended = True


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen until now. tasks, wall_s, cpu_s: of those that are done."""

    tasks: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def after(self, measured: Measured) -> Sample:
        wall_s, cpu_s = sum(one.wall_s for one in measured.ran), sum(one.cpu_s for one in measured.ran)
        return Sample(self.tasks + len(measured.ran), self.wall_s + wall_s, self.cpu_s + cpu_s)

    def next_size(self) -> int:
        """How many tasks to run next: what would last until a computing kind can be told, and no longer than any
        batch of a thread: what is left of them then is done here, beside all that is handed out."""
        if not self.tasks:
            return 1
        lasting = min(THREAD_BATCH_S, COMPUTES_AFTER_S - self.wall_s) / max(self.wall_s / self.tasks, LEAST_S)
        return max(1, min(GROWTH * self.tasks, int(lasting)))

    def verdict(self, held_ratio: float, running_wall_s: float = 0.0, running_cpu_s: float = 0.0) -> Profile | None:
        """None while it is too early. running: of the task that is not done, whose cost is taken for what it has had
        until now if no other is known."""
        wall_s, cpu_s = self.wall_s + running_wall_s, self.cpu_s + running_cpu_s
        cpu_ratio = min(1.0, cpu_s / max(wall_s, LEAST_S))
        after_s = COMPUTES_AFTER_S
        if cpu_ratio < WAITING_CPU_RATIO:
            after_s = WAITS_AFTER_S if self.tasks else UNFINISHED_AFTER_S
        if wall_s < after_s:
            return None
        tasks = max(1, self.tasks)
        gil_ratio = min(1.0, held_ratio / max(cpu_ratio, LEAST_S))
        return Profile(wall_s / tasks, cpu_s / tasks, gil_ratio, tasks)
