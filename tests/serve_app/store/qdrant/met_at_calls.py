"""Fixtures for tests of a switch: a Qdrant client that runs a test's code at a chosen call, two indexes, and a clock
that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient

from serve_app.settings import StoreSettings
from serve_app.store.qdrant import active_index as qdrant_active_index
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import FIRST_INDEX, Recipe
from tests.contracts.corpus import SCOPE, SPACE, document

FIRST, FINE = SCOPE.at(FIRST_INDEX), SCOPE.at("fine")
POLL_S = 0.001
Hook = Callable[[], Awaitable[object]]
When = str | tuple[str, str] | int


class Clock:
    """Of all stores; it stands until somebody moves it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


def moved_by_hand(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all stores from now on."""
    clock = Clock()
    monkeypatch.setattr(qdrant_active_index, "time", clock)
    monkeypatch.setattr(qdrant_active_index, "HELD_POLL_S", POLL_S)
    return clock


async def ended(changing: asyncio.Task[Any], clock: Clock) -> None:
    """However long that takes by the clock."""
    async with asyncio.timeout(20):
        while not changing.done():
            clock.now_s += 1.0
            await asyncio.sleep(2 * POLL_S)  # in which what waits looks at the clock
    await changing


async def with_two_indexes(server: AsyncQdrantClient) -> QdrantStore:
    """Which have the same document; the first answers."""
    store = QdrantStore(server, StoreSettings())
    await store.write(SCOPE, SPACE, [document("d", "text")])
    await store.make_index(FINE, Recipe(SPACE, max_tokens=64))
    await store.write(FINE, SPACE, [document("d", "text")])
    return store


class MetAtCalls:
    """A client's own view of the server. A hook runs once, around the next call of this name, of this name for this
    collection, or of this number."""

    def __init__(self, server: AsyncQdrantClient) -> None:
        self._server = server
        self.calls: list[str] = []
        self.before: dict[When, Hook] = {}
        self.after: dict[When, Hook] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._server, name)

        async def call(**arguments: Any) -> Any:
            self.calls.append(name)
            keys: tuple[When, ...] = (name, (name, arguments.get("collection_name", "")), len(self.calls))
            for hook in [self.before.pop(key) for key in keys if key in self.before]:
                await hook()
            try:
                return deepcopy(await method(**arguments))  # as it was then
            finally:
                for hook in [self.after.pop(key) for key in keys if key in self.after]:
                    await hook()

        return call


class Pause:
    """A hook that waits."""

    def __init__(self) -> None:
        self.met, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.met.set()
        await self.go_on.wait()
