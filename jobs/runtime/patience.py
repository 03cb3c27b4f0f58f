"""A store that restarts, or refuses for a while (its disk is full, a node is gone), is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve_app.errors import StoreUnavailable

T = TypeVar("T")

PATIENCE_S = 120.0  # each call has its own, shorter timeout
PAUSE_S = 1.0


async def patiently(
    call: Callable[[], Awaitable[T]],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """The answer of an idempotent call to the store, which is repeated while the store is away.
    Raises StoreUnavailable, as the last call did, after PATIENCE_S."""
    deadline_s = now() + PATIENCE_S
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if now() > deadline_s:
                raise
            await sleep(PAUSE_S)
