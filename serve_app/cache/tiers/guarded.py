"""A cache tier behind a circuit breaker: while the tier fails it is skipped, and every read of it is a miss."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from serve_app.cache.entry import Entry
from serve_app.cache.tiers.tier import ImmediateTier, Tier, TierUsage
from serve_app.flow.breaker import Guard
from serve_app.telemetry.catalogue.cache import CACHE_FAILURES, CACHE_PAUSE_SECONDS
from serve_app.telemetry.meter import Meter

CLEAR_TIMEOUT_S = 60.0
PROBE = b"\0" * 32  # a key that no entry has
AT_ONCE = 128  # entries in one call, so that a large request does not exceed the call's time limit


class GuardedTier:
    """`tier` behind a guard. Reads and writes never raise: a read that fails is a miss, a write that fails is skipped.

    meter: counts the failures and shows the pause."""

    def __init__(self, tier: Tier, timeout_s: float, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._tier = tier
        self._timeout_s = timeout_s
        failures = meter.series(CACHE_FAILURES, tier=tier.name)
        self._guard = Guard(f"cache tier {tier.name}", timeout_s, lambda: tier.get_many([PROBE]), clock, failures.add)
        meter.watch(CACHE_PAUSE_SECONDS, lambda: self._guard.pause_s, tier=tier.name)

    @property
    def name(self) -> str:
        return self._tier.name

    @property
    def pause_s(self) -> float:
        return self._guard.pause_s

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        found: dict[bytes, Entry] = {}
        for begin in range(0, len(keys), AT_ONCE):
            some = keys[begin : begin + AT_ONCE]
            found |= await self._guard.call(partial(self._tier.get_many, some)) or {}
        return found

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        items = list(entries.items())
        for begin in range(0, len(items), AT_ONCE):
            some = dict(items[begin : begin + AT_ONCE])
            await self._guard.call(partial(self._tier.put_many, some))

    async def clear(self) -> None:
        """Raises Unavailable if some entries may not be deleted."""
        await self._guard.insist(self._tier.clear, CLEAR_TIMEOUT_S)

    async def usage(self) -> TierUsage:
        """Raises Unavailable."""
        return await self._guard.insist(self._tier.usage, self._timeout_s)

    async def close(self) -> None:
        self._guard.stop()
        await self._tier.close()


class GuardedImmediateTier(GuardedTier):
    def __init__(self, tier: ImmediateTier, timeout_s: float, meter: Meter) -> None:
        super().__init__(tier, timeout_s, meter)
        self._immediate = tier

    def get_now(self, key: bytes) -> Entry | None:
        return self._immediate.get_now(key)


def guard(tier: Tier, timeout_s: float, meter: Meter) -> GuardedTier:
    """The result is an ImmediateTier if `tier` is one."""
    if isinstance(tier, ImmediateTier):
        return GuardedImmediateTier(tier, timeout_s, meter)
    return GuardedTier(tier, timeout_s, meter)
