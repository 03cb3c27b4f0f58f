"""The collections in the embedded store's folder. It opens, creates and drops their indexes and switches the active
one. A single thread does this, so nothing is opened or created twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from serve_app.errors import Conflict, NotFound, StoreBroken, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.collection import Collection
from serve_app.store.indexes import index_is_active, unknown
from serve_app.store.payload import require_storable
from serve_app.types import FIRST_INDEX, IndexedDocument, Recipe, Scope, VectorSpace

ENDINGS_AT_ONCE = 2  # threads that wait for the last users of dropped indexes
T = TypeVar("T")


class EdgeCollections:
    """on_opened: called with each index that was opened from disk, but not with a new one. on_changed: called with
    each scope whose search results change."""

    def __init__(
        self,
        folder: Path,
        settings: StoreSettings,
        on_opened: Callable[[Collection], object],
        on_changed: Callable[[Scope], None],
    ) -> None:
        self._folder, self._settings = folder, settings
        self._on_opened, self._on_changed = on_opened, on_changed
        # Open indexes by scope with the index's name; the active index is also under the scope without a name. Only the
        # opener's thread changes this dictionary.
        self.opened: dict[Scope, Collection] = {}
        self._ending: dict[Scope, Future[None]] = {}  # dropped indexes that are still in use
        self._opener = ThreadPoolExecutor(1, "store-opener")
        self._enders = ThreadPoolExecutor(ENDINGS_AT_ONCE, "store-ender")
        self.closed = False

    async def get(self, scope: Scope) -> Collection:
        """The index that the scope names, or the active index. The first call opens it; later calls do not wait. Raises
        NotFound."""
        if (collection := self.opened.get(scope)) is not None:
            return collection
        return await self._run(lambda: self._open(scope))

    async def get_for(self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument]) -> Collection:
        """The index to write these documents to. Creates the collection if it does not exist. Raises Conflict if it has
        another space, NotFound while it is being dropped."""
        try:
            collection = await self.get(scope)
        except NotFound:
            if scope.index:
                raise
            require_storable(documents, space.dim)  # before the collection is created
            collection = await self._run(lambda: self._make(scope, space))
        if collection.space != space:
            raise Conflict(
                f"collection {scope.collection!r} was made with {collection.space}, these documents with {space}: "
                "use the same model, or another collection"
            )
        return collection

    async def make_index(self, scope: Scope, recipe: Recipe) -> Collection:
        """Create the index, or open it if it exists."""
        return await self._run(lambda: self._make_index(scope, recipe))

    async def activate(self, scope: Scope, held: str) -> None:
        """Make the index that the scope names the active one. If the process is killed, either the old or the new index
        is active."""
        await self._run(lambda: self._hand_over(scope, held))

    async def drop(self, scope: Scope) -> None:
        """Remove the collection or index. It disappears at once; only this call, and writes that create it again, wait
        for the calls that still use it."""
        ended = await self._run(lambda: self._end(scope))
        await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, ended)))

    def endings(self, scope: Scope) -> list[Future[None]]:
        """A future for each dropped index of this scope that is still in use."""
        return [ending for each, ending in list(self._ending.items()) if scope in (each, each.at(""))]

    def refuse(self) -> None:
        """Make all later calls raise StoreUnavailable. Call it before `close`."""
        self.closed = True

    def require_open(self) -> None:
        """Raises StoreUnavailable after `refuse`."""
        if self.closed:
            raise StoreUnavailable("the store is closed")

    def close(self) -> None:
        """Waits for the calls that are under way."""
        for threads in (self._opener, self._enders):
            threads.shutdown(wait=True)
        for collection in set(self.opened.values()):
            collection.close()

    async def _run(self, job: Callable[[], T]) -> T:
        return await self.run_in(self._opener, job)

    async def run_in(self, threads: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        self.require_open()
        return await asyncio.wrap_future(threads.submit(job))

    # The methods below run in the opener's thread.

    def _open(self, scope: Scope, asked: Scope | None = None) -> Collection:
        """asked: the scope to name in an error, because users do not know about indexes."""
        if scope not in self.opened:
            active = self._active_index(scope)
            if not scope.index:
                self.opened[scope] = self._open(active, asked=scope)
                return self.opened[scope]
            folder = folders.index_folder(self._folder, scope)
            if self.endings(scope) or not folders.exists(folder):
                raise unknown(asked or scope)
            self.opened[scope] = Collection.open(
                folder, scope, self._settings, self._on_changed, is_active=scope == active
            )
            self._on_opened(self.opened[scope])
        return self.opened[scope]

    def _make(self, scope: Scope, space: VectorSpace) -> Collection:
        """The first index of a new collection, or the active index if the collection was created in the meantime."""
        if self.endings(scope) or folders.exists(folders.index_folder(self._folder, self._active_index(scope))):
            return self._open(scope)
        folders.forget_active_index(self._folder, scope)
        self.opened[scope] = self._make_index(scope.at(FIRST_INDEX), Recipe(space), is_active=True)
        return self.opened[scope]

    def _make_index(self, scope: Scope, recipe: Recipe, *, is_active: bool = False) -> Collection:
        folder = folders.index_folder(self._folder, scope)
        if self.endings(scope) or folders.exists(folder):
            return self._open(scope)
        self.opened[scope] = Collection.create(
            folder, scope, recipe, self._settings, self._on_changed, is_active=is_active
        )
        return self.opened[scope]

    def _hand_over(self, scope: Scope, held: str) -> None:
        old, new = self._open(scope.at("")), self._open(scope)
        if old is new:
            return
        old.gate.hand_over(held)
        try:
            folders.activate(self._folder, scope)
        except OSError as error:
            if not self._was_activated(scope):
                old.gate.open()
                raise StoreUnavailable(f"{scope.index} cannot become the active index: {error}") from error
        self.opened[scope.at("")] = new
        new.gate.open()
        # After the switch, so that no result of the old index is cached as one of the new index.
        self._on_changed(scope.at(""))

    def _was_activated(self, scope: Scope) -> bool:
        """Whether the index is active in spite of the error, which may have happened after the switch."""
        try:
            return self._active_index(scope) == scope
        except OSError as error:
            raise StoreBroken(f"which index of {scope.collection} is active cannot be read: {error}") from error

    def _end(self, scope: Scope) -> list[Future[None]]:
        """End the index, or the collection with all of its indexes. Each returned future is done when a folder is
        removed. The active index goes last, so a kill before that leaves the collection."""
        active = self._active_index(scope)
        if scope.index and scope == active:
            raise index_is_active(scope.index)
        last = scope if scope.index else active
        if self.endings(scope) or not folders.exists(folders.index_folder(self._folder, last)):
            raise unknown(scope)
        others = [] if scope.index else [each for each in folders.indexes_of(self._folder, scope) if each != active]
        if not scope.index:
            self.opened.pop(scope, None)  # first, so that new calls wait for this thread
        ended = [self._end_index(each) for each in (*others, last)]
        if not scope.index:
            folders.forget_active_index(self._folder, scope)
        self._on_changed(scope)
        return ended

    def _end_index(self, scope: Scope) -> Future[None]:
        folder = folders.index_folder(self._folder, scope)
        folders.end_index(folder)
        collection = self.opened.pop(scope, None)  # None if it was not open, or cannot be opened
        rest = partial(shutil.rmtree, folder, ignore_errors=True) if collection is None else collection.drop
        self._ending[scope] = ending = self._enders.submit(rest)
        ending.add_done_callback(lambda _: self._ending.pop(scope))
        return ending

    def _active_index(self, scope: Scope) -> Scope:
        return folders.active_index(self._folder, scope)
