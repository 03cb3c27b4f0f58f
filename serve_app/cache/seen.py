"""Which keys were asked for before: what a cache without limits would have answered. Bounded memory, known error."""

from __future__ import annotations

from typing import Any

from theine_core import BloomFilter

KEYS_PER_FILTER = 500_000
FALSE_POSITIVES = 0.01


class SeenKeys:
    """Two Bloom filters (Bloom 1970): a full one becomes the older one, whose predecessor is forgotten.

    A key never seen is taken for a seen one in at most 2 % of the cases (1 % a filter); a seen one is forgotten when
    at least `capacity`, at most twice as many, other keys came after it. Together about 1.2 MB."""

    def __init__(self, capacity: int = KEYS_PER_FILTER) -> None:
        self._capacity = capacity
        self._newer = bloom_filter(capacity)
        self._older = bloom_filter(capacity)
        self._count = 0

    def add(self, key: bytes) -> bool:
        """Whether it was there already. key: a digest."""
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
    """`put(int)` and `contains(int)`: theine-core's type stub is of an older one that took texts."""
    return BloomFilter(capacity, FALSE_POSITIVES)  # type: ignore[call-arg]
