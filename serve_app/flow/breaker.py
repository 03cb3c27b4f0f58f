"""A circuit breaker: when a service stops responding, one call waits for the timeout, and later calls fail at once
until a probe succeeds.

Source: Nygard, "Release It!", 2007. Probes run in the background, so no request waits for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from serve_app.errors import Unavailable

logger = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # doubled at every failed probe

Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Breaker:
    """pause_s: 0 while the service responds. probe_at_s: monotonic time from which a probe may run."""

    pause_s: float = 0.0
    probe_at_s: float = 0.0

    @property
    def is_closed(self) -> bool:
        """True if calls go through."""
        return self.pause_s == 0

    def probe_is_due(self, now_s: float) -> bool:
        return not self.is_closed and now_s >= self.probe_at_s

    def failed(self, now_s: float) -> Breaker:
        """The breaker after a failed call. A failure during a pause does not extend it, because that call began before
        the pause."""
        if not self.is_closed and now_s < self.probe_at_s:
            return self
        pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self.pause_s))
        return replace(self, pause_s=pause_s, probe_at_s=now_s + pause_s)

    def succeeded(self) -> Breaker:
        return Breaker()


class Guard:
    """Calls one service through a breaker, with a timeout for each call.

    name: for the log. probe: a cheap call that returns a value other than None. on_failure: called for each failed
    call or probe."""

    def __init__(
        self,
        name: str,
        timeout_s: float,
        probe: Callable[[], Awaitable[object]],
        clock: Callable[[], float],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._probe = probe
        self._clock = clock
        self._breaker = Breaker()
        self._probing: asyncio.Task[None] | None = None
        self._on_failure = on_failure

    @property
    def pause_s(self) -> float:
        """How long calls are skipped after the last failure; 0 while the service responds."""
        return self._breaker.pause_s

    async def call(self, call: Callable[[], Awaitable[Out]]) -> Out | None:
        """The result, or None if the service is unavailable. Does not raise Unavailable."""
        if not self._breaker.is_closed:
            self._probe_if_due()
            return None
        return await self._attempt(call)

    async def _attempt(self, call: Callable[[], Awaitable[Out]]) -> Out | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call()
        except (Unavailable, TimeoutError) as error:
            self._on_failure()
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
        """Make the call even if the breaker is open. Raises Unavailable after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await call()
        except TimeoutError as error:
            raise Unavailable(f"{self._name}: no answer in {timeout_s:g} s") from error

    def stop(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
