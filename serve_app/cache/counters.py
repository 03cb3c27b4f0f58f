"""What the cache counts: plain numbers, read when metrics are exported (`deployments.metrics`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from serve_app.cache.entry import Kind


@dataclass(slots=True)
class CacheCounters:
    """Lookups of one process since its start.

    hits: by tier and kind. misses: by kind. misses_seen: by kind, those of the misses whose key was asked for before,
    which a cache without limits would have answered (an estimate, see SeenKeys). joined: by kind, callers who shared
    the work of another and looked nothing up themselves. promotions: entries, by the tier they were brought to.
    writes_dropped: entries, by tier, not written because too many were waiting."""

    hits: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    misses: Counter[Kind] = field(default_factory=Counter)
    misses_seen: Counter[Kind] = field(default_factory=Counter)
    joined: Counter[Kind] = field(default_factory=Counter)
    promotions: Counter[str] = field(default_factory=Counter)
    writes_dropped: Counter[str] = field(default_factory=Counter)

    def hit_ratio(self, kind: Kind) -> float | None:
        """Of all lookups; None before the first."""
        hits = self._hits(kind)
        return ratio(hits, hits + self.misses[kind])

    def ratio_to_infinite(self, kind: Kind) -> float | None:
        """Hits over those of a cache that forgets nothing, for the same lookups; None before it had any."""
        hits = self._hits(kind)
        return ratio(hits, hits + self.misses_seen[kind])

    def _hits(self, kind: Kind) -> int:
        return sum(count for (_, of_kind), count in list(self.hits.items()) if of_kind is kind)


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
