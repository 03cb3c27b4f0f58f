"""Indexes of a collection on a Qdrant server: one is made beside another, let answer in its place, and dropped."""

from __future__ import annotations

import contextlib

from serve_app.errors import StoreUnavailable
from serve_app.store.indexes import is_answering, require_same_recipe, unknown
from serve_app.store.qdrant.answering import QdrantAnswering
from serve_app.store.qdrant.changes import QdrantChanges
from serve_app.store.qdrant.collections import QdrantCollections
from serve_app.types import IndexInfo, Recipe, Scope


class QdrantSwitch:
    """ports.Indexes, but for the inventory."""

    def __init__(self, collections: QdrantCollections, answering: QdrantAnswering, changes: QdrantChanges) -> None:
        self._collections = collections
        self._answering = answering
        self._changes = changes

    async def drop(self, scope: Scope) -> None:
        """Of a collection, the index that answers goes last: what is cut off before that leaves the collection. While
        an index goes alone writes are held back, so that nobody lets it answer meanwhile; Conflict if they are
        already."""
        answering = await self._answering.resolve(scope.at(""), fresh=True)
        if scope == answering:
            raise is_answering(scope.index)
        last = scope if scope.index else answering
        await self._collections.recipe(last)  # NotFound where there is none; the server would say nothing
        if scope.index:
            await self._drop_beside(answering, scope)
            return
        async with self._changes.changing(scope):
            others = [each for each in await self._collections.indexes(scope) if each != last]
            for index in (*others, last):
                await self._collections.drop(index)
            self._answering.forget(scope)

    async def _drop_beside(self, answering: Scope, scope: Scope) -> None:
        held = await self._answering.hold(answering, self._answering.fence_s)
        try:
            async with self._answering.fenced(answering, held):
                await self._collections.drop(scope)
        finally:
            with contextlib.suppress(StoreUnavailable):  # it ends by itself
                await self._answering.release(answering, held)

    async def answering(self, scope: Scope) -> IndexInfo:
        look = await self._answering.look(scope.at(""))
        if scope.index not in ("", look.index.index):
            return IndexInfo(scope, await self._collections.recipe(scope), False)
        if look.info is None:
            raise unknown(scope)
        return IndexInfo(look.index, self._collections.learn(look.index, look.info), True)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        answering = await self.answering(scope.at(""))
        scopes = await self._collections.indexes(scope)
        others = [IndexInfo(i, await self._collections.recipe(i), False) for i in scopes if i != answering.scope]
        return [answering, *others]

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self.answering(scope.at(""))
        require_same_recipe(scope, await self._collections.ensure(scope, recipe), recipe)

    async def hold(self, scope: Scope, lease_s: float) -> str:
        return await self._answering.hold((await self.answering(scope.at(""))).scope, lease_s)

    async def switch(self, scope: Scope, held: str) -> None:
        old = (await self.answering(scope.at(""))).scope
        if old == scope:
            return
        await self._collections.recipe(scope)  # NotFound
        async with self._changes.changing(scope.at("")), self._answering.fenced(old, held):
            await self._answering.let_answer(scope)
        await self._answering.release(old, held)

    async def release(self, scope: Scope, held: str) -> None:
        await self._answering.release(await self._answering.resolve(scope.at(""), fresh=True), held)
