"""Which tasks are tried again, and when: exponential backoff."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from jobs.parallel.places import Attempt

CRASH_RETRIES = 3  # of a task whose worker died, which may not be its fault
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0  # before another try; each is twice the one before


class Retries:
    """Attempts that wait for their next try."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def next_s(self) -> float:
        """When the first is due; inf if none waits."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def put(self, attempt: Attempt, now_s: float) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt.begun - 1))
        heapq.heappush(self._waiting, (now_s + pause_s, next(self._numbers), attempt))

    def due(self, now_s: float) -> Iterator[Attempt]:
        while self.next_s <= now_s:
            yield heapq.heappop(self._waiting)[2]


def after_error(attempt: Attempt) -> bool:
    """Counts what the task raised, or that it took too long. Whether it is tried again."""
    attempt.errors += 1
    return attempt.errors <= attempt.task.retries


def after_crash(attempt: Attempt) -> bool:
    """Counts the death of a worker that had only this task. Whether it is tried again."""
    attempt.crashes += 1
    return attempt.crashes <= CRASH_RETRIES
