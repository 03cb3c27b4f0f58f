"""Compares the hits of the first cache tier with those of an unlimited cache, for the same requests.

Requests follow Zipf's law (exponent 1), the usual model of queries: a million requests for 200,000 keys. The cache is
empty at first and has room for a tenth of the keys. In the second figure, entries differ in size as search results do,
and there is room for a tenth of all their bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from serve_app.cache.entry import Entry, EntryKind
from serve_app.cache.tiers.memory import OVERHEAD_BYTES, SLOT_BYTES, MemoryTier, slots_of
from tests.bench.rounds import Comparison, Series, interleave

KEYS = 200_000
REQUESTS = 1_000_000
ROOM = 0.1
TARGET = 0.88
LARGEST_BYTES = 16_384  # ten passages of a search result


def compare(rounds: int) -> list[Comparison]:
    same = [SLOT_BYTES - OVERHEAD_BYTES] * KEYS
    differing = np.random.default_rng(0).integers(1, LARGEST_BYTES, KEYS).tolist()
    return [
        compare_sizes("cache, L1 hits, entries of one size", same, rounds, TARGET),
        compare_sizes("cache, L1 hits, entries of 1 B to 16 KiB", differing, rounds, None),
    ]


def compare_sizes(figure: str, sizes_bytes: Sequence[int], rounds: int, target: float | None) -> Comparison:
    """Both contenders get the same requests in a round; each round has different ones."""
    keys = [hashlib.blake2b(str(number).encode(), digest_size=32).digest() for number in range(KEYS)]
    payloads = {
        size: bytes(size) for size in set(sizes_bytes)
    }  # shared between entries, which would take gigabytes otherwise
    entries = [Entry(EntryKind.RESULT, payloads[size]) for size in sizes_bytes]
    limit_bytes = int(ROOM * SLOT_BYTES * sum(map(slots_of, entries)))

    def bounded(requests: Sequence[int]) -> float:
        return asyncio.run(hits_of_first_tier(requests, keys, entries, limit_bytes))

    values = interleave({"first tier": each_round(bounded), "infinite": each_round(hits_of_infinite)}, rounds)
    ours, infinite = Series("first tier", "hits", values["first tier"]), Series("infinite", "hits", values["infinite"])
    return Comparison(figure, ours, infinite, target, note=f"Zipf 1.0, room for {ROOM:.0%}")


def each_round(count: Callable[[Sequence[int]], float]) -> Callable[[], float]:
    """Uses the number of the round as the seed."""
    seeds = itertools.count()
    return lambda: count(zipf(next(seeds)))


def zipf(seed: int) -> list[int]:
    weights = 1 / np.arange(1, KEYS + 1)
    return np.random.default_rng(seed).choice(KEYS, REQUESTS, p=weights / weights.sum()).tolist()


async def hits_of_first_tier(
    requests: Sequence[int], keys: Sequence[bytes], entries: Sequence[Entry], limit_bytes: int
) -> float:
    tier = MemoryTier(limit_bytes, ttl_s=3_600)
    hits = 0
    for number in requests:
        if tier.get_now(keys[number]) is not None:
            hits += 1
        else:
            await tier.put_many({keys[number]: entries[number]})
    return float(hits)


def hits_of_infinite(requests: Sequence[int]) -> float:
    return float(len(requests) - len(set(requests)))
