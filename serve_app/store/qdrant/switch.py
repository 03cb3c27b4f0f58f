"""The indexes of a collection on a Qdrant server: creates, activates and drops them."""

from __future__ import annotations

import contextlib

from serve_app.errors import StoreUnavailable
from serve_app.store.indexes import index_is_active, require_same_recipe, unknown
from serve_app.store.qdrant.active_index import QdrantActiveIndex
from serve_app.store.qdrant.changes import QdrantChanges
from serve_app.store.qdrant.collections import QdrantCollections
from serve_app.types import IndexInfo, Recipe, Scope


class QdrantSwitch:
    """ports.IndexBuildStore without the inventory, and ports.WriteHoldStore."""

    def __init__(self, collections: QdrantCollections, active: QdrantActiveIndex, changes: QdrantChanges) -> None:
        self._collections = collections
        self._active_index = active
        self._changes = changes

    async def drop(self, scope: Scope) -> None:
        """See ports.CollectionStore. The active index goes last, so an interrupted drop leaves the collection. While a
        single index is dropped, writes are held back so that nobody can activate it. Raises Conflict if they are held
        back already."""
        active = await self._active_index.resolve(scope.at(""), fresh=True)
        if scope == active:
            raise index_is_active(scope.index)
        last = scope if scope.index else active
        await self._collections.recipe(last)  # raises NotFound; the server would not
        if scope.index:
            await self._drop_beside(active, scope)
            return
        async with self._changes.changing(scope):
            others = [each for each in await self._collections.indexes(scope) if each != last]
            for index in (*others, last):
                await self._collections.drop(index)
            self._active_index.forget(scope)

    async def _drop_beside(self, active: Scope, scope: Scope) -> None:
        held = await self._active_index.hold(active, self._active_index.fence_s)
        try:
            async with self._changes.changing(scope), self._active_index.fenced(active, held):
                await self._collections.drop(scope)
        finally:
            with contextlib.suppress(StoreUnavailable):  # the hold ends by itself
                await self._active_index.release(active, held)

    async def active_index(self, scope: Scope) -> IndexInfo:
        state = await self._active_index.state(scope.at(""))
        if scope.index not in ("", state.index.index):
            return IndexInfo(scope, await self._collections.recipe(scope), False)
        if state.info is None:
            raise unknown(scope)
        return IndexInfo(state.index, self._collections.learn(state.index, state.info), True)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        active = await self.active_index(scope.at(""))
        scopes = await self._collections.indexes(scope)
        others = [IndexInfo(i, await self._collections.recipe(i), False) for i in scopes if i != active.scope]
        return [active, *others]

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self.active_index(scope.at(""))
        require_same_recipe(scope, await self._collections.ensure(scope, recipe), recipe)

    async def hold(self, scope: Scope, lease_s: float) -> str:
        return await self._active_index.hold((await self.active_index(scope.at(""))).scope, lease_s)

    async def switch(self, scope: Scope, held: str) -> None:
        old = (await self.active_index(scope.at(""))).scope
        if old == scope:
            return
        await self._collections.recipe(scope)  # NotFound
        async with self._changes.changing(scope.at("")), self._active_index.fenced(old, held):
            await self._active_index.activate(scope)
        await self._active_index.release(old, held)

    async def release(self, scope: Scope, held: str) -> None:
        await self._active_index.release(await self._active_index.resolve(scope.at(""), fresh=True), held)
