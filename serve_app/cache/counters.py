"""What the cache counts: plain numbers, read by telemetry and the admin API."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from serve_app.cache.entry import Kind


@dataclass(slots=True)
class CacheCounters:
    """Lookups of one process since its start.

    hits: by tier and kind. misses: by kind. misses_seen: by kind, those of the misses whose key was asked for before,
    which a cache without limits would have answered (an estimate, see SeenKeys). joined: callers who shared the work
    of another and looked nothing up themselves. bytes_served: payloads of hits. writes_dropped: not made, because too
    many were under way."""

    hits: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    misses: Counter[Kind] = field(default_factory=Counter)
    misses_seen: Counter[Kind] = field(default_factory=Counter)
    joined: int = 0
    bytes_served: int = 0
    promotions: int = 0
    writes_dropped: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """Of all lookups; None before the first."""
        hits, misses = self.hits.total(), self.misses.total()
        return hits / (hits + misses) if hits + misses else None

    @property
    def ratio_to_infinite(self) -> float | None:
        """Hits over those of a cache that forgets nothing, for the same lookups; None before it had any."""
        hits, seen = self.hits.total(), self.misses_seen.total()
        return hits / (hits + seen) if hits + seen else None
