"""Process memory: the suite, real memory and what the policy keeps."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.cache.tiers.memory import OVERHEAD_BYTES, SLOT_BYTES, MemoryTier
from serve_app.cache.tiers.tier import Tier
from tests.contracts.cache_tier import TTL_S, CacheTierContract, Clock, entry, key

MIB = 1024 * 1024
OWN = (__file__, "*/tests/contracts/*", "*/serve_app/cache/*", "*/theine/*")  # not what other threads do meanwhile


class TestMemoryTier(CacheTierContract):
    @pytest.fixture
    def tier(self, clock: Clock) -> Tier:
        return MemoryTier(MIB, TTL_S, clock=clock)


async def test_the_process_grows_by_no_more_than_the_limit() -> None:
    limit_bytes = 2 * MIB
    for payload_bytes in (10, 1_536, 12_000):
        tracemalloc.start()
        tier = MemoryTier(limit_bytes, TTL_S)
        for number in range(3 * limit_bytes // max(payload_bytes, 400)):
            await tier.put_many({key(number): entry(bytes(payload_bytes))})
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, pattern) for pattern in OWN])
        tracemalloc.stop()
        grown_bytes = sum(each.size for each in own.statistics("filename"))
        assert 0.1 * limit_bytes < grown_bytes <= limit_bytes
        assert (await tier.usage()).bytes > (0.2 if payload_bytes == 10 else 0.7) * limit_bytes


async def test_a_vector_of_384_floats_takes_one_slot() -> None:
    assert 384 * 4 + OVERHEAD_BYTES <= SLOT_BYTES


async def test_what_is_asked_for_often_outlives_a_scan() -> None:
    tier = MemoryTier(MIB, TTL_S)
    hot = [key(("hot", number)) for number in range(100)]
    for k in hot:
        await tier.put_many({k: entry(bytes(1_000))})
    for _ in range(20):
        await tier.get_many(hot)
    for number in range(5_000):
        await tier.put_many({key(("once", number)): entry(bytes(1_000))})
    assert len(await tier.get_many(hot)) >= 90


async def test_what_has_expired_makes_room_without_being_asked_for() -> None:
    tier = MemoryTier(MIB, 0.5)  # the policy's own clock is the real one
    await tier.put_many({key(number): entry() for number in range(100)})
    assert (await tier.usage()).entries == 100
    async with asyncio.timeout(20):
        while (await tier.usage()).entries > 1:
            await asyncio.sleep(0.1)
            await tier.put_many({key("new"): entry()})


@given(
    puts=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 6_000), st.floats(-5, 50), st.booleans()), min_size=1, max_size=120
    )
)
async def test_every_entry_owns_its_slots_whatever_is_done(puts: list[tuple[int, int, float, bool]]) -> None:
    clock = Clock()
    tier = MemoryTier(40 * SLOT_BYTES, TTL_S, clock=clock)
    for name, payload_bytes, lifetime_s, ask in puts:
        await tier.put_many({key(name): entry(bytes(payload_bytes), expires_at_s=clock() + lifetime_s)})
        clock.now_s += 1
        if ask:
            tier.get_now(key(name))
        usage = await tier.usage()
        assert usage.bytes <= usage.limit_bytes
        assert tier._policy.len() == len(tier._owners)
        assert set(tier._owners.values()) == tier._entries.keys()
