"""Whether prefetching is worth its work. Pure; time is an argument."""

from __future__ import annotations

from serve_app.search.prefetch.page_turns import DecayedRatio

USEFUL_AT_START = 8.0  # prefetches that are counted as useful from the start, so that prefetching begins switched on
PROBE_IN = 20  # while prefetching is off, one in this many is made to find out whether it has become useful


class Usefulness:
    """Prefetching is off while (USEFUL_AT_START + useful) / (USEFUL_AT_START + made) is below `least_ratio`."""

    def __init__(self, least_ratio: float, half_life_s: float) -> None:
        self._least_ratio = least_ratio
        self._prefetches = DecayedRatio(half_life_s)
        self._skipped = 0  # since the last probe

    def made(self, now_s: float) -> None:
        self._prefetches.add_trial(now_s)

    def used(self, now_s: float, made_at_s: float) -> None:
        """Call it at most once for each prefetch."""
        self._prefetches.add_success(now_s, made_at_s)

    def ratio(self) -> float | None:
        """Useful prefetches over all; None before the first. Decay does not change it."""
        made = self._prefetches.trials
        return min(self._prefetches.successes / made, 1.0) if made else None

    def is_on(self, now_s: float) -> bool:
        self._prefetches.decay(now_s)
        useful, made = self._prefetches.successes, self._prefetches.trials
        return USEFUL_AT_START + useful >= self._least_ratio * (USEFUL_AT_START + made)

    def permits(self, now_s: float) -> bool:
        """Whether this prefetch may be made. While prefetching is off, one call in PROBE_IN returns true."""
        if self.is_on(now_s):
            return True
        self._skipped = (self._skipped + 1) % PROBE_IN
        return self._skipped == 0
