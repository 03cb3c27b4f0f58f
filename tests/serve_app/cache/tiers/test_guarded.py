"""A guarded tier around one that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from serve_app.cache.entry import Entry
from serve_app.cache.tiers.guarded import AT_ONCE, GuardedTier, guard
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.cache.tiers.tier import ImmediateTier, TierUsage
from serve_app.errors import Unavailable
from serve_app.flow.breaker import FIRST_PAUSE_S
from serve_app.telemetry.meter import Meter
from tests.contracts.cache_tier import Clock, entry, key
from tests.serve_app.telemetry.counted import counted


class FailingTier(MemoryTier):
    """Process memory that counts its calls; `error` is raised, `hangs` never answers."""

    calls = 0
    error: Exception | None = None
    hangs = False

    async def _reached(self) -> None:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        await self._reached()
        return await super().get_many(keys)

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        await self._reached()
        await super().put_many(entries)


def failures(meter: Meter) -> float:
    return counted(meter, "aidocs_cache_failures_total", tier="l3")[""]


def pause_s(meter: Meter) -> float:
    return counted(meter, "aidocs_cache_pause_seconds", tier="l3")[""]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what changes has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("way", ["hangs", "raises"])
async def test_after_one_failure_nothing_reaches_the_tier_until_a_probe_succeeds(way: str) -> None:
    tier, clock = FailingTier(1 << 20, 60, name="l3"), Clock()
    meter = Meter()
    guarded = GuardedTier(tier, 0.05, meter, clock)
    await guarded.put_many({key(1): entry()})
    tier.hangs, tier.error = way == "hangs", Unavailable("gone") if way == "raises" else None
    tier.calls = 0
    for _ in range(50):
        assert await guarded.get_many([key(1)]) == {}
        await guarded.put_many({key(1): entry()})
    assert tier.calls == 1
    clock.now_s += FIRST_PAUSE_S
    for _ in range(50):  # one probe, beside them
        assert await guarded.get_many([key(1)]) == {}
    await until(lambda: failures(meter) == 2)
    assert tier.calls == 2 and pause_s(meter) > 0
    tier.hangs, tier.error = False, None
    clock.now_s += 2 * FIRST_PAUSE_S
    assert await guarded.get_many([key(1)]) == {}
    await until(lambda: pause_s(meter) == 0)
    assert key(1) in await guarded.get_many([key(1)])


async def test_what_is_too_much_for_one_call_goes_in_several() -> None:
    class Slow(FailingTier):
        """Takes a call of AT_ONCE within its time, and no larger one."""

        async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
            self.hangs = len(keys) > AT_ONCE
            return await super().get_many(keys)

        async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
            self.hangs = len(entries) > AT_ONCE
            await super().put_many(entries)

    tier = Slow(1 << 24, 60, name="l3")
    meter = Meter()
    guarded = GuardedTier(tier, 0.05, meter)
    entries = {key(number): entry() for number in range(2 * AT_ONCE + 1)}
    await guarded.put_many(entries)
    assert await guarded.get_many([*entries]) == await MemoryTier.get_many(tier, [*entries])
    assert len(await guarded.get_many([*entries])) == len(entries)
    assert failures(meter) == 0 and tier.calls == 9
    tier.error, tier.calls = Unavailable("gone"), 0
    await guarded.put_many(entries)
    assert tier.calls == 1, "after a failure nothing more reaches it"


async def test_a_caller_that_leaves_is_no_failure() -> None:
    tier = FailingTier(1 << 20, 60, name="l3")
    tier.hangs = True
    meter = Meter()
    guarded = GuardedTier(tier, 30, meter)
    task = asyncio.ensure_future(guarded.get_many([key(1)]))
    await until(lambda: tier.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pause_s(meter) == 0 and failures(meter) == 0


async def test_an_error_that_is_a_mistake_is_not_hidden() -> None:
    tier = FailingTier(1 << 20, 60, name="l3")
    tier.error = TypeError("a bug")
    with pytest.raises(TypeError):
        await GuardedTier(tier, 1, Meter()).get_many([key(1)])


async def test_clear_and_usage_say_that_they_failed() -> None:
    class Hanging(MemoryTier):
        async def usage(self) -> TierUsage:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(Unavailable, match=r"no answer in 0\.01 s"):
        await GuardedTier(Hanging(1 << 20, 60, name="l3"), 0.01, Meter()).usage()


async def test_a_guarded_immediate_tier_stays_immediate() -> None:
    guarded = guard(MemoryTier(1 << 20, 60, name="l3"), 1, Meter())
    await guarded.put_many({key(1): entry(b"x")})
    assert isinstance(guarded, ImmediateTier)
    found = guarded.get_now(key(1))
    assert found is not None and found.payload == b"x"
