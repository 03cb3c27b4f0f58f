"""Changes of a collection on a Qdrant server: one at a time in this process, and always to the active index."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from weakref import WeakValueDictionary

from serve_app.errors import NotFound
from serve_app.ports import Versions
from serve_app.store.indexes import already_active
from serve_app.store.qdrant.active_index import IndexState, QdrantActiveIndex
from serve_app.types import Scope


class QdrantChanges:
    def __init__(self, active: QdrantActiveIndex, versions: Versions | None) -> None:
        self._active_index = active
        self._versions = versions
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()  # while anybody has or wants one

    async def change(self, scope: Scope, change: Callable[[IndexState], Awaitable[None]]) -> None:
        """Apply `change` to the active index, and repeat it if another index has become active meanwhile (see
        active_index.py). If there is no collection, `change` raises NotFound, or makes one and is called again."""
        if scope.index:
            if scope == await self._active_index.resolve(scope.at(""), fresh=True):
                raise already_active(scope.index)
            async with self.changing(scope):
                return await change(await self._active_index.state_of(scope))
        was_gone = False
        while True:
            state = await self._active_index.wait_until_open(scope)
            try:
                async with self.changing(scope):
                    await change(state)
            except NotFound:  # the collection was dropped meanwhile; a write makes it again
                if state.info is None or was_gone:
                    raise
                was_gone = True
                continue
            if await self._active_index.is_unchanged(state):
                return None

    @contextlib.asynccontextmanager
    async def changing(self, scope: Scope) -> AsyncIterator[None]:
        """One change after the other, in this process; and no version while it lasts."""
        async with self._lock(scope):
            if self._versions is None:
                yield
            else:
                async with self._versions.changing(scope):
                    yield

    def _lock(self, scope: Scope) -> asyncio.Lock:
        return self._locks.setdefault(scope, asyncio.Lock())
