"""The collections in the embedded store's folder: those that are open, which of their indexes answer, what is being
dropped. They are opened, made and dropped in one thread, so that nothing is opened or made twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from serve_app.errors import Conflict, NotFound, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.collection import Collection
from serve_app.store.edge.shard import StoreBroken
from serve_app.store.indexes import is_answering, unknown
from serve_app.store.payload import require_storable
from serve_app.types import FIRST_INDEX, IndexedDocument, Recipe, Scope, VectorSpace

ENDINGS_AT_ONCE = 2  # dropped collections that are waited for
T = TypeVar("T")


class EdgeCollections:
    """tell_opened: called with each that was opened, and not made. tell_changed: with each whose answers are others
    from now on."""

    def __init__(
        self,
        folder: Path,
        settings: StoreSettings,
        tell_opened: Callable[[Collection], object],
        tell_changed: Callable[[Scope], None],
    ) -> None:
        self._folder, self._settings = folder, settings
        self._tell_opened, self._tell_changed = tell_opened, tell_changed
        # By the scope with the index's name, and those that answer by the scope without; changed in the opener's one
        # thread only.
        self.opened: dict[Scope, Collection] = {}
        self._ending: dict[Scope, Future[None]] = {}  # indexes that were dropped, while somebody still uses them
        self._opener = ThreadPoolExecutor(1, "store-opener")
        self._enders = ThreadPoolExecutor(ENDINGS_AT_ONCE, "store-ender")
        self.closed = False

    async def get(self, scope: Scope) -> Collection:
        """That index, or the one that answers. Opened when first asked for; one that is open waits for nothing.
        Raises NotFound."""
        if (collection := self.opened.get(scope)) is not None:
            return collection
        return await self._run(lambda: self._open(scope))

    async def get_for(self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument]) -> Collection:
        """Made if there is none. Raises Conflict if it has another space, NotFound while one is being dropped."""
        try:
            collection = await self.get(scope)
        except NotFound:
            if scope.index:
                raise
            require_storable(documents, space.dim)  # before a collection is made for them
            collection = await self._run(lambda: self._make(scope, space))
        if collection.space != space:
            raise Conflict(
                f"collection {scope.collection!r} was made with {collection.space}, these documents with {space}: "
                "use the same model, or another collection"
            )
        return collection

    async def make_index(self, scope: Scope, recipe: Recipe) -> Collection:
        """Or the one that is there."""
        return await self._run(lambda: self._make_index(scope, recipe))

    async def let_answer(self, scope: Scope, held: str) -> None:
        """A kill leaves the old one answering or the new one."""
        await self._run(lambda: self._hand_over(scope, held))

    async def drop(self, scope: Scope) -> None:
        """It does not exist from the first step on, and nobody but who drops it, or writes to it anew, waits for what
        still uses it."""
        ended = await self._run(lambda: self._end(scope))
        await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, ended)))

    def endings(self, scope: Scope) -> list[Future[None]]:
        """Of this index, or of any of the collection's, that was dropped and is still used."""
        return [ending for each, ending in list(self._ending.items()) if scope in (each, each.at(""))]

    def refuse(self) -> None:
        """From now on calls raise StoreUnavailable. Before `close`."""
        self.closed = True

    def require_open(self) -> None:
        """Raises StoreUnavailable after `refuse`."""
        if self.closed:
            raise StoreUnavailable("the store is closed")

    def close(self) -> None:
        """Waits for the calls at hand."""
        for threads in (self._opener, self._enders):
            threads.shutdown(wait=True)
        for collection in set(self.opened.values()):
            collection.close()

    async def _run(self, job: Callable[[], T]) -> T:
        return await self.run_in(self._opener, job)

    async def run_in(self, threads: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        self.require_open()
        return await asyncio.wrap_future(threads.submit(job))

    # In the opener's thread.

    def _open(self, scope: Scope, asked: Scope | None = None) -> Collection:
        """asked: what somebody asked for, who need not know of indexes."""
        if scope not in self.opened:
            answering = self._answering(scope)
            if not scope.index:
                self.opened[scope] = self._open(answering, asked=scope)
                return self.opened[scope]
            folder = folders.index_folder(self._folder, scope)
            if self.endings(scope) or not folders.exists(folder):
                raise unknown(asked or scope)
            self.opened[scope] = Collection.open(
                folder, scope, self._settings, self._tell_changed, answers=scope == answering
            )
            self._tell_opened(self.opened[scope])
        return self.opened[scope]

    def _make(self, scope: Scope, space: VectorSpace) -> Collection:
        """With its first index; or the one that was made in between."""
        if self.endings(scope) or folders.exists(folders.index_folder(self._folder, self._answering(scope))):
            return self._open(scope)
        folders.forget_answering(self._folder, scope)
        self.opened[scope] = self._make_index(scope.at(FIRST_INDEX), Recipe(space), answers=True)
        return self.opened[scope]

    def _make_index(self, scope: Scope, recipe: Recipe, *, answers: bool = False) -> Collection:
        folder = folders.index_folder(self._folder, scope)
        if self.endings(scope) or folders.exists(folder):
            return self._open(scope)
        self.opened[scope] = Collection.create(
            folder, scope, recipe, self._settings, self._tell_changed, answers=answers
        )
        return self.opened[scope]

    def _hand_over(self, scope: Scope, held: str) -> None:
        """In this thread no drop can come between."""
        old, new = self._open(scope.at("")), self._open(scope)
        if old is new:
            return
        old.gate.hand_over(held)
        try:
            folders.let_answer(self._folder, scope)
        except OSError as error:
            if not self._came_to_answer(scope):
                old.gate.open()
                raise StoreUnavailable(f"{scope.index} cannot be made to answer: {error}") from error
        self.opened[scope.at("")] = new
        new.gate.open()
        self._tell_changed(scope)  # after it, so that no answer of the old one is kept for the new one's

    def _came_to_answer(self, scope: Scope) -> bool:
        """In spite of an error, which may have come after the switch."""
        try:
            return self._answering(scope) == scope
        except OSError as error:
            raise StoreBroken(f"which index of {scope.collection} answers cannot be read: {error}") from error

    def _end(self, scope: Scope) -> list[Future[None]]:
        """The index, or the collection with all of its indexes, does not exist any more; a future is done when its
        folder is gone, too. The index that answers goes last: a kill before that leaves the collection."""
        answering = self._answering(scope)
        if scope.index and scope == answering:
            raise is_answering(scope.index)
        last = scope if scope.index else answering
        if self.endings(scope) or not folders.exists(folders.index_folder(self._folder, last)):
            raise unknown(scope)
        others = [] if scope.index else [each for each in folders.indexes_of(self._folder, scope) if each != answering]
        if not scope.index:
            self.opened.pop(scope, None)  # first: who comes now waits for this thread
        ended = [self._end_index(each) for each in (*others, last)]
        if not scope.index:
            folders.forget_answering(self._folder, scope)
            self._tell_changed(scope)
        return ended

    def _end_index(self, scope: Scope) -> Future[None]:
        folder = folders.index_folder(self._folder, scope)
        folders.end_index(folder)
        collection = self.opened.pop(scope, None)  # none where it was never opened, be it that it cannot be
        rest = partial(shutil.rmtree, folder, ignore_errors=True) if collection is None else collection.drop
        self._ending[scope] = ending = self._enders.submit(rest)
        ending.add_done_callback(lambda _: self._ending.pop(scope))
        return ending

    def _answering(self, scope: Scope) -> Scope:
        return folders.answering(self._folder, scope)
