"""A store that restarts is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve_app.errors import StoreUnavailable

T = TypeVar("T")

PATIENCE_S = 120.0  # each call has its own, shorter timeout
PAUSE_S = 1.0


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of an idempotent call to the store, which is repeated while the store is away.
    Raises StoreUnavailable after PATIENCE_S."""
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(PAUSE_S)
