"""Tiers as one cache: order, filling, promotion, single flight, remembered errors, counting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from serve_app.cache import write_behind
from serve_app.cache.entry import Entry, EntryKind
from serve_app.cache.tiered import MISS, CachedPayload, Tiered
from serve_app.cache.tiers.guarded import guard
from serve_app.cache.tiers.lmdb import LmdbTier, SharedMemoryTier
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.cache.tiers.redis import RedisTier
from serve_app.cache.tiers.segments import Segments
from serve_app.cache.tiers.tier import Tier, TierUsage
from serve_app.errors import InvalidInput, NotFound, PlatformError, StoreUnavailable
from serve_app.redis_client import connect
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane
from tests.contracts.cache_tier import TTL_S, Clock, key
from tests.serve_app.cache.redis_server import redis_server
from tests.serve_app.telemetry.counted import counted, nonzero

MIB = 1024 * 1024
RESULT = EntryKind.RESULT


class FarTier:
    """Process memory that takes `delay_s` for a read and counts its calls."""

    def __init__(self, name: str = "l3", delay_s: float = 0.0, clock: Clock | None = None) -> None:
        self._memory = MemoryTier(MIB, TTL_S, clock=clock or Clock())
        self.name = name
        self.delay_s = delay_s
        self.gets = self.puts = 0
        self.go = asyncio.Event()
        self.go.set()

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        self.gets += 1
        await asyncio.sleep(self.delay_s)
        return await self._memory.get_many(keys)

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        await self.go.wait()
        self.puts += 1
        await self._memory.put_many(entries)

    async def clear(self) -> None:
        await self._memory.clear()

    async def usage(self) -> TierUsage:
        return await self._memory.usage()

    async def close(self) -> None: ...


async def answer(payload: bytes = b"computed") -> bytes:
    return payload


@pytest.mark.slow
async def test_all_four_real_tiers_answer_in_order_and_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        tiers: list[Tier] = [
            MemoryTier(MIB, 300),
            guard(SharedMemoryTier("l2", Segments(tmp_path / "shared", MIB, 1_800)), 5, Meter()),
            guard(RedisTier(connect(server.url, 5), MIB, 3_600), 5, Meter()),
            guard(LmdbTier("l4", Segments(tmp_path / "disk", MIB, 86_400)), 5, Meter()),
        ]
        cache = Tiered(tiers)
        assert await cache.get(RESULT, key(1)) is None
        assert await cache.get_or_compute(RESULT, key(1), answer) == CachedPayload(b"computed", MISS)
        await cache.flush()
        for number, tier in enumerate(tiers):
            found = await Tiered(tiers[number:]).get(RESULT, key(1))
            assert found == CachedPayload(b"computed", f"l{number + 1}")
            await tier.clear()
        assert await cache.get(RESULT, key(1)) is None
        usage = await cache.usage()
        assert list(usage) == ["l1", "l2", "l3", "l4"]
        assert all(isinstance(of_tier, TierUsage) and of_tier.entries == 0 for of_tier in usage.values())
        server.kill()
        assert isinstance((await cache.usage())["l3"], PlatformError)
        server.start()
        await cache.close()


async def test_a_hit_in_the_first_tier_asks_no_other_and_waits_for_nothing() -> None:
    far = FarTier()
    meter = Meter()
    cache = Tiered([MemoryTier(MIB, TTL_S), far], meter)
    await cache.put(RESULT, key(1), b"x")
    with pytest.raises(StopIteration) as ended:  # a coroutine that never hands over to the loop
        cache.get(RESULT, key(1)).send(None)
    assert ended.value.value == cache.get_now(RESULT, key(1)) == CachedPayload(b"x", "l1")
    assert far.gets == 0 and nonzero(meter, "aidocs_cache_lookups_total") == {("result", "l1", "hit"): 2}


async def test_an_entry_of_another_kind_is_a_miss() -> None:
    cache = Tiered([MemoryTier(MIB, TTL_S)])
    await cache.put(EntryKind.EMBEDDING, key(1), b"vector")
    assert cache.get_now(RESULT, key(1)) is None and await cache.get(RESULT, key(1)) is None


async def test_what_is_asked_for_once_is_not_promoted_and_twice_it_is() -> None:
    clock = Clock()
    near, far = MemoryTier(MIB, TTL_S, clock=clock), FarTier(delay_s=0.005, clock=clock)
    meter = Meter()
    cache = Tiered([near, far], meter)
    await cache.put(RESULT, key(1), b"x")
    await near.clear()
    for tier in ("l3", "l3", "l1"):
        assert await cache.get(RESULT, key(1)) == CachedPayload(b"x", tier)
        await cache.flush()
    assert nonzero(meter, "aidocs_cache_promotions_total") == {("l1",): 1}


async def test_nothing_is_promoted_into_a_slower_tier() -> None:
    slow, quick = FarTier("l3", 0.005), FarTier("l4")
    meter = Meter()
    cache = Tiered([slow, quick], meter)
    await cache.put(RESULT, key(1), b"x")
    await slow.clear()
    for _ in range(10):
        assert await cache.get(RESULT, key(1)) == CachedPayload(b"x", "l4")
    assert nonzero(meter, "aidocs_cache_promotions_total") == {}


async def test_many_callers_make_one_lookup_and_one_computation() -> None:
    far, computed = FarTier(delay_s=0.001), 0

    async def compute() -> bytes:
        nonlocal computed
        computed += 1
        await asyncio.sleep(0)
        return b"x"

    meter = Meter()
    cache = Tiered([MemoryTier(MIB, TTL_S), far], meter)
    found = await asyncio.gather(*(cache.get_or_compute(RESULT, key(1), compute) for _ in range(50)))
    assert found == [CachedPayload(b"x", MISS)] * 50
    assert computed == far.gets == 1 and nonzero(meter, "aidocs_cache_joined_total") == {("result",): 49}
    assert cache.get_now(RESULT, key(1)) == CachedPayload(b"x", "l1"), "kept before it is answered"


async def test_who_waits_does_not_join_what_is_behind_an_upload() -> None:
    stuck = asyncio.Event()

    async def behind_an_upload() -> bytes:
        await stuck.wait()
        return b"x"

    meter = Meter()
    cache = Tiered([MemoryTier(MIB, TTL_S)], meter)
    bulk = [asyncio.create_task(cache.get_or_compute(RESULT, key(1), behind_an_upload, Lane.BULK)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(cache.get_or_compute(RESULT, key(1), answer), 10) == CachedPayload(b"computed", MISS)
    stuck.set()
    assert await asyncio.gather(*bulk) == [CachedPayload(b"x", MISS)] * 2
    assert nonzero(meter, "aidocs_cache_joined_total") == {("result",): 1}


async def test_an_answer_does_not_wait_for_a_far_tier_and_close_does() -> None:
    far = FarTier()
    far.go.clear()
    cache = Tiered([MemoryTier(MIB, TTL_S), far])
    await asyncio.wait_for(cache.get_or_compute(RESULT, key(1), answer), 10)
    assert far.puts == 0
    asyncio.get_running_loop().call_later(0.01, far.go.set)
    await cache.close()
    assert far.puts == 1


async def test_writes_that_pile_up_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "MAX_WAITING_BYTES", 3 * len(b"computed"))
    far = FarTier()
    far.go.clear()
    meter = Meter()
    cache = Tiered([MemoryTier(MIB, TTL_S), far], meter)
    for number in range(10):
        await cache.get_or_compute(RESULT, key(number), answer)
    assert nonzero(meter, "aidocs_cache_writes_dropped_total") == {("l3",): 7}
    far.go.set()
    await cache.close()
    assert far.puts == 1


@pytest.mark.parametrize("error", [NotFound("no collection 'x'"), InvalidInput("limit")])
async def test_a_lasting_error_is_remembered_for_a_short_time_by_near_tiers(error: PlatformError) -> None:
    clock = Clock()
    far = FarTier(clock=clock)
    cache = Tiered([MemoryTier(MIB, TTL_S, clock=clock), far], negative_ttl_s=5, clock=clock)
    computed = 0

    async def fail() -> bytes:
        nonlocal computed
        computed += 1
        raise error

    for _ in range(3):
        with pytest.raises(type(error), match=str(error)):
            await cache.get_or_compute(RESULT, key(1), fail)
    with pytest.raises(type(error)):
        await cache.get(RESULT, key(1))
    assert await cache.get_many(RESULT, [key(1)]) == {}
    assert computed == 1 and far.puts == 0
    clock.now_s += 5
    with pytest.raises(type(error)):
        await cache.get_or_compute(RESULT, key(1), fail)
    assert computed == 2
    clock.now_s += 5
    assert await cache.get_or_compute(RESULT, key(1), answer) == CachedPayload(b"computed", MISS)


async def test_a_passing_error_reaches_all_and_is_not_remembered() -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0)
        raise StoreUnavailable("later")

    cache = Tiered([MemoryTier(MIB, TTL_S)])
    callers = [cache.get_or_compute(RESULT, key(1), fail) for _ in range(5)]
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in answers] == [StoreUnavailable] * 5
    assert await cache.get_or_compute(RESULT, key(1), answer) == CachedPayload(b"computed", MISS)


async def test_many_keys_are_looked_up_together_in_each_tier() -> None:
    far = FarTier()
    near = MemoryTier(MIB, TTL_S)
    meter = Meter()
    cache = Tiered([near, far], meter)
    await cache.put_many(RESULT, {key(number): bytes([number]) for number in range(20)})
    await near.clear()
    await near.put_many({key(1): Entry(RESULT, b"\1")})
    found = await cache.get_many(RESULT, [key(number) for number in (1, 2, 2, 99)])
    assert found == {key(1): CachedPayload(b"\1", "l1"), key(2): CachedPayload(b"\2", "l3")}
    hits = {("result", "l1", "hit"): 1, ("result", "l3", "hit"): 1}
    assert far.gets == 1 and nonzero(meter, "aidocs_cache_lookups_total") == hits | {("result", "all", "miss"): 1}


async def test_without_any_tier_everything_is_computed() -> None:
    cache = Tiered([])
    assert cache.get_now(RESULT, key(1)) is None and await cache.get(RESULT, key(1)) is None
    assert await cache.get_or_compute(RESULT, key(1), answer) == CachedPayload(b"computed", MISS)
    await cache.put(RESULT, key(1), b"x")
    await cache.clear()
    await cache.close()


async def test_hits_and_repeated_misses_are_those_of_an_exact_count() -> None:
    meter = Meter()
    cache = Tiered([MemoryTier(2_048 * 100, TTL_S)], meter)
    assert counted(meter, "aidocs_cache_hit_ratio") == {}, "no ratio before the first lookup"
    generator, seen, hits, infinite = random.Random(3), set[int](), 0, 0
    for _ in range(5_000):
        name = int(generator.paretovariate(0.6)) % 5_000
        hits += (await cache.get_or_compute(RESULT, key(name), answer)).tier != MISS
        infinite += name in seen
        seen.add(name)
    assert counted(meter, "aidocs_cache_hit_ratio", kind="result") == {"": hits / 5_000}
    repeated = counted(meter, "aidocs_cache_repeated_misses_total", kind="result")[""]
    assert infinite <= hits + repeated <= infinite / 0.97
