"""Changes of collections on a Qdrant server. In this process, the changes of a collection run one at a time, and they
always reach the active index."""

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
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()  # kept while in use

    async def change(self, scope: Scope, change: Callable[[IndexState], Awaitable[None]]) -> None:
        """Apply `change` to the scope's index. On the active index, repeat it if another index has become active in the
        meantime (see active_index.py). Without a collection, `change` raises NotFound, or creates the collection and is
        called again."""
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
            except NotFound:  # dropped in the meantime; a write creates it again
                if state.info is None or was_gone:
                    raise
                was_gone = True
                continue
            if await self._active_index.is_unchanged(state):
                return None

    @contextlib.asynccontextmanager
    async def changing(self, scope: Scope) -> AsyncIterator[None]:
        """A context for one change. Changes of a scope run one after another in this process, and the scope has no
        version during a change."""
        async with self._lock(scope):
            if self._versions is None:
                yield
            else:
                async with self._versions.changing(scope):
                    yield

    def _lock(self, scope: Scope) -> asyncio.Lock:
        return self._locks.setdefault(scope, asyncio.Lock())
