"""What is asked after what: decayed counts of steps and of the steps that came next. Pure; time is an argument.

A first-order Markov model of navigation, as for prefetching of web pages (Padmanabhan and Mogul, SIGCOMM CCR 1996),
with exponential forgetting instead of a window. For a step s and a next one t, with r = 0.5^(age / half_life):

    share(t | s) = Σ r of t after s  /  (PRIOR + Σ r of s)
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serve_app.flow.recent import Recent

Step = TypeVar("Step", bound=Hashable)

PRIOR = 1.0  # steps that nothing followed, imagined for each: what was seen once is not certain


def remaining(elapsed_s: float, half_life_s: float) -> float:
    """What an event counts that was 1 when it happened."""
    return float(0.5 ** (max(elapsed_s, 0.0) / half_life_s))


@dataclass(frozen=True, slots=True)
class Likely(Generic[Step]):
    """share: of the times the step before was taken, 0 to 1."""

    step: Step
    share: float


@dataclass(slots=True)
class StepCounts(Generic[Step]):
    """One step's counts as of `at_s`."""

    at_s: float
    taken: float = 0.0
    next: dict[Step, float] = field(default_factory=dict)

    def decay(self, now_s: float, half_life_s: float) -> None:
        if now_s <= self.at_s:
            return
        left = remaining(now_s - self.at_s, half_life_s)
        self.taken *= left
        self.next = {step: count * left for step, count in self.next.items()}
        self.at_s = now_s


class FollowUps(Generic[Step]):
    """At most max_steps steps, those taken last, each with at most max_next that followed. Where more would, the least
    of them gives way to the newest, so that what is frequent stays."""

    def __init__(self, half_life_s: float, max_steps: int = 2_048, max_next: int = 4) -> None:
        self._half_life_s = half_life_s
        self._max_next = max_next
        self._rows: Recent[Step, StepCounts[Step]] = Recent(max_steps)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, step: Step, now_s: float) -> None:
        """Count a step. Ask `likely` before: of this one nobody knows yet what follows."""
        row = self._rows.get(step)
        if row is None:
            row = StepCounts(now_s)
            self._rows.put(step, row)
        row.decay(now_s, self._half_life_s)
        row.taken += 1

    def follow(self, previous: Step, step: Step, now_s: float) -> None:
        """Count that this step came after that one; nothing, if that one is forgotten."""
        row = self._rows.get(previous)
        if row is None:
            return
        row.decay(now_s, self._half_life_s)
        if step not in row.next and len(row.next) >= self._max_next:
            del row.next[min(row.next, key=row.next.__getitem__)]
        row.next[step] = row.next.get(step, 0.0) + 1

    def likely(self, step: Step, now_s: float) -> Likely[Step] | None:
        """What follows most often; None if nothing ever did."""
        row = self._rows.look(step)
        if row is None or not row.next:
            return None
        row.decay(now_s, self._half_life_s)
        best = max(row.next, key=row.next.__getitem__)
        return Likely(best, min(row.next[best] / (PRIOR + row.taken), 1.0))
