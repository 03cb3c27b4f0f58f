"""Combines requests for keys into batched calls. Requests that arrive during a call are answered together by the next
call, so a result is never older than its request. In `single_flight`, by contrast, late callers join the running call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Rounds(Generic[K, V]):
    """ask: returns the values of distinct keys; `get` returns None for a missing key. Its calls do not overlap."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: set[K] = set()
        self._next: asyncio.Task[Mapping[K, V]] | None = None
        self._asking = asyncio.Lock()

    async def get(self, key: K) -> V | None:
        """The key's value, or None. Raises what `ask` raises."""
        self._waiting.add(key)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round())
        answers = await asyncio.shield(self._next)  # other callers await it as well
        return answers.get(key)

    async def _round(self) -> Mapping[K, V]:
        async with self._asking:
            keys, self._waiting, self._next = [*self._waiting], set(), None
            return await self._ask(keys)
