"""Keys that were requested before: a cache without limits would have them. Bounded memory, known error."""

from __future__ import annotations

from typing import Any

from theine_core import BloomFilter

KEYS_PER_FILTER = 500_000
FALSE_POSITIVES = 0.01


class SeenKeys:
    """Two Bloom filters (Bloom, 1970). When the newer one is full it replaces the older one, and an empty one follows.

    At most 2 % of the new keys are taken for seen ones (1 % for each filter). A seen key is forgotten after between
    `capacity` and twice as many other keys. Both filters together take about 1.2 MB."""

    def __init__(self, capacity: int = KEYS_PER_FILTER) -> None:
        self._capacity = capacity
        self._newer = bloom_filter(capacity)
        self._older = bloom_filter(capacity)
        self._count = 0

    def add(self, key: bytes) -> bool:
        """True if the key was seen before. key: a digest."""
        number = int.from_bytes(key[:8], "little")
        if self._newer.contains(number):
            return True
        if self._count >= self._capacity:
            self._older, self._newer = self._newer, bloom_filter(self._capacity)
            self._count = 0
        self._newer.put(number)
        self._count += 1
        return bool(self._older.contains(number))


def bloom_filter(capacity: int) -> Any:
    """It has `put(int)` and `contains(int)`. theine-core's type stub describes an older version that took strings."""
    return BloomFilter(capacity, FALSE_POSITIVES)  # type: ignore[call-arg]
