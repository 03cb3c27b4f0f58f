"""What is asked while a call is under way is asked in the next one, all of it together: no answer is older than its
question. Not as `single_flight`, where whoever comes late joins the call under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Rounds(Generic[K, V]):
    """ask: the answers to distinct keys; one that is absent is answered by None. Called once at a time."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: set[K] = set()
        self._next: asyncio.Task[Mapping[K, V]] | None = None
        self._asking = asyncio.Lock()

    async def get(self, key: K) -> V | None:
        """Raises what `ask` raises."""
        self._waiting.add(key)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round())
        answers = await asyncio.shield(self._next)  # it is others' as well
        return answers.get(key)

    async def _round(self) -> Mapping[K, V]:
        async with self._asking:
            keys, self._waiting, self._next = [*self._waiting], set(), None
            return await self._ask(keys)
