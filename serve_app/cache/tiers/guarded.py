"""A cache tier behind a circuit breaker: one that fails is a miss, and is left out until it answers again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from serve_app.cache.entry import Entry
from serve_app.cache.tiers.tier import ImmediateTier, Tier, Usage
from serve_app.flow.breaker import Guard

CLEAR_TIMEOUT_S = 60.0
PROBE = b"\0" * 32  # a key that nobody has
AT_ONCE = 128  # entries of one call, so that its time limit is not for the size of a request


class GuardedTier:
    """`tier` behind a guard. It never raises: what cannot be had is a miss, what cannot be put is left out."""

    def __init__(self, tier: Tier, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tier = tier
        self._timeout_s = timeout_s
        self._guard = Guard(f"cache tier {tier.name}", timeout_s, lambda: tier.get_many([PROBE]), clock)

    @property
    def name(self) -> str:
        return self._tier.name

    @property
    def failures(self) -> int:
        return self._guard.failures

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
        """Raises Unavailable: who wants everything gone must know that it is not."""
        await self._guard.insist(self._tier.clear, CLEAR_TIMEOUT_S)

    async def usage(self) -> Usage:
        """Raises Unavailable."""
        return await self._guard.insist(self._tier.usage, self._timeout_s)

    async def close(self) -> None:
        self._guard.stop()
        await self._tier.close()


class GuardedImmediateTier(GuardedTier):
    def __init__(self, tier: ImmediateTier, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(tier, timeout_s, clock)
        self._immediate = tier

    def get_now(self, key: bytes) -> Entry | None:
        return self._immediate.get_now(key)


def guard(tier: Tier, timeout_s: float) -> GuardedTier:
    return GuardedImmediateTier(tier, timeout_s) if isinstance(tier, ImmediateTier) else GuardedTier(tier, timeout_s)
