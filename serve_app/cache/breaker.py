"""A cache tier, or another service, that does not answer costs one timeout, and then nothing until it answers again.

Circuit breaker after Nygard, "Release It!", 2007. The probe after a pause is made beside the requests, so that not
even that one waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from serve_app.cache.entry import Entry
from serve_app.cache.tier import ImmediateTier, Tier, Usage
from serve_app.errors import Unavailable

logger = logging.getLogger(__name__)
CLEAR_TIMEOUT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # doubled at every failed probe
PROBE = b"\0" * 32  # a key that nobody has
AT_ONCE = 128  # entries of one call, so that its time limit is not for the size of a request

Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Breaker:
    """pause_s: 0 while the tier answers. probe_at_s: when, on a monotonic clock, it may be tried again."""

    pause_s: float = 0.0
    probe_at_s: float = 0.0

    @property
    def is_closed(self) -> bool:
        """True: calls go through."""
        return self.pause_s == 0

    def probe_is_due(self, now_s: float) -> bool:
        return not self.is_closed and now_s >= self.probe_at_s

    def failed(self, now_s: float) -> Breaker:
        """A failure while a pause lasts, of a call that had begun before it, does not make it longer."""
        if not self.is_closed and now_s < self.probe_at_s:
            return self
        pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self.pause_s))
        return replace(self, pause_s=pause_s, probe_at_s=now_s + pause_s)

    def succeeded(self) -> Breaker:
        return Breaker()


class Guard:
    """Calls to one service, each with a time limit, behind a breaker. failures: calls, probes included, that were not
    answered.

    name: for the log. probe: a cheap call whose answer is not None."""

    def __init__(
        self, name: str, timeout_s: float, probe: Callable[[], Awaitable[object]], clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._probe = probe
        self._clock = clock
        self._breaker = Breaker()
        self._probing: asyncio.Task[None] | None = None
        self.failures = 0

    @property
    def pause_s(self) -> float:
        """For so long the service is left out after its last failure; 0 while it answers."""
        return self._breaker.pause_s

    async def call(self, call: Callable[[], Awaitable[Out]]) -> Out | None:
        """The answer, or None where there is none. Never raises."""
        if not self._breaker.is_closed:
            self._probe_if_due()
            return None
        return await self._attempt(call)

    async def _attempt(self, call: Callable[[], Awaitable[Out]]) -> Out | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call()
        except (Unavailable, TimeoutError) as error:
            self.failures += 1
            before, self._breaker = self._breaker, self._breaker.failed(self._clock())
            if before.is_closed and not self._breaker.is_closed:
                reason = str(error) or f"no answer in {self._timeout_s:g} s"
                logger.warning("%s is left out until it answers: %s", self._name, reason)
            return None
        return answer

    def _probe_if_due(self) -> None:
        if self._breaker.probe_is_due(self._clock()) and (self._probing is None or self._probing.done()):
            self._probing = asyncio.get_running_loop().create_task(self._try_again())

    async def _try_again(self) -> None:
        if await self._attempt(self._probe) is not None:
            self._breaker = self._breaker.succeeded()
            logger.warning("%s answers again", self._name)

    async def insist(self, call: Callable[[], Awaitable[Out]], timeout_s: float) -> Out:
        """The answer, whatever the breaker says. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                return await call()
        except TimeoutError as error:
            raise Unavailable(f"{self._name}: no answer in {timeout_s:g} s") from error

    def stop(self) -> None:
        if self._probing is not None:
            self._probing.cancel()


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
