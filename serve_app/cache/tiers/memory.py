"""The tier in this process's memory: a dict with the eviction policy W-TinyLFU.

Policy: Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 2017, as in
theine-core. theine-core bounds the number of its items and gives all the same weight. So an entry takes as many items
("slots") of SLOT_BYTES as its size needs, and is removed as soon as one of them is evicted. The size stays under the
limit, and a large entry stays only if it is requested often enough for all its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from theine_core import TlfuCore

from serve_app.cache.entry import Entry
from serve_app.cache.tiers.tier import Clock, TierUsage, utc_s

OVERHEAD_BYTES = 512  # of one entry: key, Entry, three dict slots. A 384-dimensional float32 vector fits into one slot
SLOT_BYTES = 2_048
SLOTS_DIVISOR = 16  # an entry that needs more slots than all slots divided by this is not stored
READS_AT_ONCE = 64  # hits are reported to the policy in batches of this size
STEP = 0x9E3779B97F4A7C15  # odd, so the slot numbers of one entry differ
MASK = 2**64 - 1


class MemoryTier:
    """Belongs to one event loop, or one thread. A limit_bytes below SLOTS_DIVISOR slots counts as that many slots."""

    def __init__(self, limit_bytes: int, ttl_s: float, *, name: str = "l1", clock: Clock = utc_s) -> None:
        self._name = name
        self._ttl_s = ttl_s
        self._clock = clock
        self._slots = max(SLOTS_DIVISOR, limit_bytes // SLOT_BYTES)
        self._forget()

    def _forget(self) -> None:
        self._policy = TlfuCore(self._slots)
        self._entries: dict[bytes, Entry] = {}
        self._owners: dict[int, bytes] = {}  # slot → key
        self._reads: list[bytes] = []
        self._swept_at_s = self._clock()

    @property
    def name(self) -> str:
        return self._name

    def get_now(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at_s <= self._clock():
            self._remove(key)
            return None
        self._reads.append(key)
        if len(self._reads) >= READS_AT_ONCE:
            self._report_reads()
        return entry

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        return {key: entry for key in keys if (entry := self.get_now(key)) is not None}

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        now_s = self._clock()
        self._report_reads()
        self._sweep(now_s)
        for key, entry in entries.items():
            self._put(key, entry.until(now_s + self._ttl_s), now_s)

    def _put(self, key: bytes, entry: Entry, now_s: float) -> None:
        left_s = entry.expires_at_s - now_s
        count = slots_of(entry)
        held = self._entries.get(key)
        if held is not None and (left_s <= 0 or slots_of(held) != count):
            self._remove(key)
        if left_s <= 0 or count > self._slots // SLOTS_DIVISOR:
            return
        self._entries[key] = entry
        slots = slot_numbers(key, count)
        self._owners.update(dict.fromkeys(slots, key))
        lifetime_ns = int(left_s * 1e9)
        for slot in self._policy.set([(slot, lifetime_ns) for slot in slots]):
            self._evicted(slot)

    def _evicted(self, slot: int) -> None:
        key = self._owners.get(slot)
        if key is not None:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        for slot in slot_numbers(key, slots_of(self._entries.pop(key))):
            self._policy.remove(slot)
            self._owners.pop(slot, None)

    def _report_reads(self) -> None:
        present = (key for key in self._reads if key in self._entries)
        self._policy.access([slot for key in present for slot in slot_numbers(key, slots_of(self._entries[key]))])
        self._reads.clear()

    def _sweep(self, now_s: float) -> None:
        """Remove expired entries, at most once a second."""
        if abs(now_s - self._swept_at_s) >= 1:
            self._swept_at_s = now_s
            for slot in self._policy.advance():
                self._evicted(slot)

    async def clear(self) -> None:
        self._forget()

    async def usage(self) -> TierUsage:
        weight_bytes = sum(weigh(entry) for entry in self._entries.values())
        return TierUsage(weight_bytes, len(self._entries), self._slots * SLOT_BYTES)

    async def close(self) -> None:
        self._forget()


def weigh(entry: Entry) -> int:
    return len(entry.payload) + OVERHEAD_BYTES


def slots_of(entry: Entry) -> int:
    return -(-weigh(entry) // SLOT_BYTES)


def slot_numbers(key: bytes, count: int) -> list[int]:
    first = int.from_bytes(key[:8], "little")  # keys are digests, so these bits are random
    return [(first + number * STEP) & MASK for number in range(count)]
