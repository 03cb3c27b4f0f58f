"""Changes of a collection on a Qdrant server: one after the other in this process, and to the index that answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from weakref import WeakValueDictionary

from serve_app.errors import NotFound
from serve_app.ports import Versions
from serve_app.store.indexes import answers_already
from serve_app.store.qdrant.answering import Look, QdrantAnswering
from serve_app.types import Scope


class QdrantChanges:
    def __init__(self, answering: QdrantAnswering, versions: Versions | None) -> None:
        self._answering = answering
        self._versions = versions
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()  # while anybody has or wants one

    async def change(self, scope: Scope, change: Callable[[Look], Awaitable[None]]) -> None:
        """On the index that answers, and that still does when it is done; see answering. Where there is no
        collection `change` raises NotFound, or makes one and is called again."""
        if scope.index:
            if scope == await self._answering.resolve(scope.at(""), fresh=True):
                raise answers_already(scope.index)
            async with self._lock(scope):
                return await change(await self._answering.look_at(scope))
        was_gone = False
        while True:
            look = await self._answering.unheld(scope)
            try:
                async with self.changing(scope):
                    await change(look)
            except NotFound:  # dropped since, with its collection, which a write makes anew
                if look.info is None or was_gone:
                    raise
                was_gone = True
                continue
            if await self._answering.is_as_seen(look):
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
