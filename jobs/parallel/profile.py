"""What tasks of one kind cost, as measured; a value that grows with each batch that ran."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

from jobs.parallel.calls import Measured

NEWEST_SHARE = 0.3  # of the newest batch in the means
GIL_BOUND_CORES = (0.85, 1.15)  # what threads use in all that wait for each other's GIL
LEAST_S = 1e-7


@dataclass(frozen=True, slots=True)
class Profile:
    """Means over the tasks of one kind; tasks: how many of them were measured.

    gil_ratio: the part of its CPU time in which it holds the GIL; 1 unless it was seen to release it. sent_bytes,
    result_bytes: of one task, as pickled. portable: whether it can be sent to another process at all.
    """

    wall_s: float
    cpu_s: float
    gil_ratio: float = 1.0
    tasks: int = 1
    sent_bytes: int = 0
    result_bytes: int = 0
    peak_bytes: int = 0
    portable: bool = True

    @property
    def cpu_ratio(self) -> float:
        """The part of its time in which it computes; the rest it waits."""
        return min(1.0, self.cpu_s / max(self.wall_s, LEAST_S))

    def after(self, measured: Measured) -> Profile:
        """With one more batch."""
        if not measured.ran:
            return self
        wall_s, cpu_s = (
            fmean(values) for values in zip(*((one.wall_s, one.cpu_s) for one in measured.ran), strict=True)
        )
        share = max(NEWEST_SHARE, len(measured.ran) / (self.tasks + len(measured.ran)))
        return replace(
            self,
            wall_s=self.wall_s + share * (wall_s - self.wall_s),
            cpu_s=self.cpu_s + share * (cpu_s - self.cpu_s),
            tasks=self.tasks + len(measured.ran),
            peak_bytes=max(self.peak_bytes, measured.peak_bytes),
        )

    def after_window(self, rate_per_s: float, threads: int) -> Profile:
        """With what several threads of this process reached together: if that is one core's worth, they wait for the
        GIL, whatever was seen before."""
        low, high = GIL_BOUND_CORES
        is_bound = threads > 1 and low <= rate_per_s * self.cpu_s <= high
        return replace(self, gil_ratio=1.0, wall_s=min(self.wall_s, max(self.cpu_s, LEAST_S))) if is_bound else self
