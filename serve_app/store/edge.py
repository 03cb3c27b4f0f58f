"""The embedded store: Qdrant Edge in this process, one shard per collection. No server to install."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeVar

from serve_app.errors import Conflict, NotFound, PlatformError, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store import edge_folders as folders
from serve_app.store.edge_collection import Collection
from serve_app.store.edge_indexes import MAX_INDEXES, facet_indexes, filter_indexes
from serve_app.store.edge_query import answer
from serve_app.store.edge_reads import counted, fingerprints, indexed_documents, inventory, retrieve, scrolled
from serve_app.store.edge_shard import StoreBroken
from serve_app.store.free_space import NoRoom
from serve_app.store.gate import NotNow
from serve_app.store.indexes import from_index, is_answering, require_made_for, require_same_recipe, unknown
from serve_app.store.optimize import Optimizer
from serve_app.store.payload import DOCUMENT_FIELDS, LISTED_FIELDS, require_storable, to_document, to_listed
from serve_app.store.versions import Versions
from serve_app.types import (
    FIRST_INDEX,
    CollectionInfo,
    Document,
    DocumentPage,
    IndexedDocument,
    IndexInfo,
    InventoryPage,
    JsonObject,
    ListingPage,
    Recipe,
    Scope,
    StoreQuery,
    StoreResult,
    VectorSpace,
)

LOG = logging.getLogger(__name__)
READERS = 4  # a call into a shard holds the GIL, so more search no faster; but none waits for one slow read
ENDINGS_AT_ONCE = 2  # dropped collections that are waited for
HELD_POLL_S = 0.02  # by a write that is held back
T = TypeVar("T")


class EdgeStore:
    """VectorStore over Qdrant Edge; the only process that may open its folder.

    A write is on disk, as far as the operating system is concerned, when it returns: it survives the death of this
    process at any instant. It survives the loss of power once Edge has flushed it (every few thousand points, when
    an optimisation begins, and on close). Optimises by itself (see optimize.py). Never blocks the event loop for
    longer than one call into a shard, which holds the GIL: some 10 ms; opening a large collection takes more.
    """

    def __init__(self, folder: Path, settings: StoreSettings, lock: BinaryIO) -> None:
        self._folder, self._settings, self._lock_file = folder, settings, lock
        self._versions = Versions(folder)
        # By the scope with the index's name, and those that answer by the scope without; changed in the opener's one
        # thread only.
        self._collections: dict[Scope, Collection] = {}
        self._ending: dict[Scope, Future[None]] = {}  # indexes that were dropped, while somebody still uses them
        self._opener = ThreadPoolExecutor(1, "store-opener")
        self._enders = ThreadPoolExecutor(ENDINGS_AT_ONCE, "store-ender")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._optimizer = Optimizer(settings)
        self._closed = False

    @classmethod
    def open(cls, data_dir: Path, settings: StoreSettings) -> EdgeStore:
        """Takes `data_dir`/store for this process. Raises StoreLocked if another one has it, ConfigurationError if
        the folder cannot be used, StoreUnavailable if its disk is full before there is anything in it."""
        folder = data_dir.absolute() / folders.FOLDER
        lock = folders.lock(folder)
        try:
            folders.remove_ended(folder)
            return cls(folder, settings, lock)
        except OSError as error:
            lock.close()
            raise StoreUnavailable(f"the store cannot use {folder}: {error}") from error

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        try:
            return await self._read_of(scope, lambda it: fingerprints(it, document_ids))
        except NotFound:
            return {}

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        try:
            return await self._read_of(scope, lambda it: indexed_documents(it, document_ids))
        except NotFound:
            return {}

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        documents = list({indexed.document.id: indexed for indexed in documents}.values())

        async def open_for_them() -> Collection:
            collection = await self._collection_for(scope, space, documents)
            require_made_for(made_for, collection.scope)
            return collection

        while True:
            try:
                collection, _ = await self._change(
                    open_for_them, lambda it: it.write(documents, by_name=bool(scope.index))
                )
                break
            except NotFound:  # it is being dropped, so it is made anew after that
                if ending := self._endings(scope):
                    await asyncio.wait([asyncio.wrap_future(each) for each in ending])
                elif scope.index:
                    raise
        await self._read(lambda: self._optimizer.consider(collection))

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        _, deleted = await self._change(
            lambda: self._collection(scope), lambda it: it.delete(document_ids, by_name=bool(scope.index))
        )
        return deleted

    async def _change(
        self, find: Callable[[], Awaitable[Collection]], job: Callable[[Collection], T]
    ) -> tuple[Collection, T]:
        """Runs the job in the writer thread of the collection that `find` finds. While writes are held back it waits,
        and finds anew, for another index may answer then."""
        while True:
            collection = await find()
            try:
                return collection, await asyncio.wrap_future(collection.submit(partial(job, collection)))
            except NotNow:
                await asyncio.sleep(HELD_POLL_S)

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        places: dict[Scope, list[int]] = {}
        for place, query in enumerate(queries):
            places.setdefault(query.scope, []).append(place)
        answers: dict[int, StoreResult | PlatformError] = {}

        async def of_scope(scope: Scope, at: Sequence[int]) -> None:
            found = await self._answer(scope, [queries[place] for place in at])
            answers.update(zip(at, found, strict=True))

        await asyncio.gather(*(of_scope(scope, at) for scope, at in places.items()))
        return [answers[place] for place in range(len(queries))]

    async def _answer(self, scope: Scope, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        try:
            collection = await self._collection(scope)
            try:
                return await self._answer_of(collection, queries)
            except NotFound:  # gone since
                if (now := await self._collection(scope)) is collection:
                    raise
                return await self._answer_of(now, queries)
        except StoreBroken:
            raise
        except PlatformError as error:  # a collection that cannot be read is an answer to its own queries only
            if self._closed:
                raise
            return [error] * len(queries)

    async def _answer_of(
        self, collection: Collection, queries: Sequence[StoreQuery]
    ) -> list[StoreResult | PlatformError]:
        collection.index_soon(wanted for query in queries for wanted in filter_indexes(query.filter))
        missing = collection.missing_indexes(chain.from_iterable(facet_indexes(query.facets) for query in queries))
        refused: NoRoom | None = None  # only facets need them
        if missing:
            making = collection.submit(lambda: collection.make_indexes(missing, MAX_INDEXES))
            try:
                await asyncio.wrap_future(making)
            except NoRoom as error:
                refused = error

        def read() -> list[StoreResult | PlatformError]:
            with collection.shard() as shard:
                return from_index(collection.scope.index, answer(shard, collection.space, queries))

        found = await self._read(read)
        return [refused if refused and query.facets else each for query, each in zip(queries, found, strict=True)]

    async def document(self, scope: Scope, document_id: str) -> Document:
        def read(collection: Collection) -> Document:
            found = retrieve(collection, [document_id], DOCUMENT_FIELDS)
            if not found:
                raise NotFound(f"there is no document {document_id[:80]!r} in collection {scope.collection!r}")
            return to_document(found[0])

        return await self._read_of(scope, read)

    async def scroll(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> DocumentPage:
        def read(collection: Collection) -> DocumentPage:
            records, following = scrolled(collection, DOCUMENT_FIELDS, filter, limit, cursor)
            return DocumentPage(tuple(map(to_document, records)), following)

        return await self._read_of(scope, read)

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        def read(collection: Collection) -> ListingPage:
            records, following = scrolled(collection, LISTED_FIELDS, filter, limit, cursor)
            return ListingPage(tuple(map(to_listed, records)), following)

        return await self._read_of(scope, read)

    async def version(self, scope: Scope) -> bytes:
        return self._versions.current(scope)

    def version_now(self, scope: Scope) -> bytes:
        return self._versions.current(scope)

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        return await self._read_of(scope, lambda it: counted(it, filter))

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        found = []
        for name in await self._read(lambda: folders.collections_of(self._folder, Scope(tenant, "any").tenant)):
            try:
                found.append(await self.count(Scope(tenant, name)))
            except NotFound:  # dropped in between
                continue
            except StoreUnavailable as error:
                if self._closed or isinstance(error, StoreBroken):
                    raise
                LOG.warning("collection %s of tenant %s is not listed: %s", name, tenant, error)
        return found

    async def drop(self, scope: Scope) -> None:
        """It does not exist from the first step on, and nobody but who drops it, or writes to it anew, waits for what
        still uses it."""
        ended = await self._run(self._opener, lambda: self._end(scope))
        await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, ended)))

    async def answering(self, scope: Scope) -> IndexInfo:
        collection = await self._collection(scope)
        return IndexInfo(collection.scope, collection.recipe, collection.gate.answers)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        scopes = await self._read(lambda: folders.indexes_of(self._folder, scope.at("")))
        found = [await self.answering(each) for each in scopes]
        if not any(each.answers for each in found):
            raise unknown(scope)
        return sorted(found, key=lambda each: not each.answers)

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self._collection(scope.at(""))
        made = await self._run(self._opener, lambda: self._make_index(scope, recipe))
        require_same_recipe(scope, made.recipe, recipe)

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        return await self._read_of(scope, lambda it: inventory(it, limit, cursor))

    async def hold(self, scope: Scope, lease_s: float) -> str:
        collection = await self._collection(scope.at(""))
        return await asyncio.wrap_future(collection.submit(lambda: collection.gate.hold(lease_s)))

    async def switch(self, scope: Scope, held: str) -> None:
        await self._run(self._opener, lambda: self._hand_over(scope, held))

    async def release(self, scope: Scope, held: str) -> None:
        (await self._collection(scope.at(""))).gate.release(held)

    async def optimize(self, scope: Scope) -> None:
        """Index what was written, now, however little it is; else that happens by itself. Raises StoreUnavailable
        if it fails, and then all is as it was before."""
        collection = await self._collection(scope)
        await asyncio.wrap_future(self._optimizer.submit(collection))

    async def check(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        for collection in list(self._collections.values()):
            if collection.broken is not None:
                raise collection.broken

    async def close(self) -> None:
        """Ends an optimisation, waits for the calls at hand and gives the folder free. Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._optimizer.close()
        for threads in (self._opener, self._enders, self._readers):
            threads.shutdown(wait=True)
        for collection in set(self._collections.values()):
            collection.close()
        self._lock_file.close()

    async def _read(self, job: Callable[[], T]) -> T:
        """Run in one of the reader threads."""
        return await self._run(self._readers, job)

    async def _read_of(self, scope: Scope, read: Callable[[Collection], T]) -> T:
        """Of the index that answers, or of the one that has taken its place where it is gone since."""
        collection = await self._collection(scope)
        try:
            return await self._read(partial(read, collection))
        except NotFound:
            if (now := await self._collection(scope)) is collection:
                raise
            return await self._read(partial(read, now))

    async def _run(self, threads: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.wrap_future(threads.submit(job))

    async def _collection(self, scope: Scope) -> Collection:
        """That index, or the one that answers. Opened when first asked for; one that is open waits for nothing.
        Raises NotFound."""
        if (collection := self._collections.get(scope)) is not None:
            return collection
        return await self._run(self._opener, lambda: self._open_collection(scope))

    async def _collection_for(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument]
    ) -> Collection:
        """Made if there is none. Raises Conflict if it has another space, NotFound while one is being dropped."""
        try:
            collection = await self._collection(scope)
        except NotFound:
            if scope.index:
                raise
            require_storable(documents, space.dim)  # before a collection is made for them
            collection = await self._run(self._opener, lambda: self._make_collection(scope, space))
        if collection.space != space:
            raise Conflict(
                f"collection {scope.collection!r} was made with {collection.space}, these documents with {space}: "
                "use the same model, or another collection"
            )
        return collection

    # In the opener's thread.

    def _open_collection(self, scope: Scope) -> Collection:
        if scope not in self._collections:
            answering = self._answering(scope)
            if not scope.index:
                self._collections[scope] = self._open_collection(answering)
                return self._collections[scope]
            folder = folders.index_folder(self._folder, scope)
            if self._endings(scope) or not folders.exists(folder):
                raise unknown(scope)
            self._collections[scope] = Collection.open(
                folder, scope, self._settings, self._changed, answers=scope == answering
            )
            self._optimizer.consider(self._collections[scope])
        return self._collections[scope]

    def _make_collection(self, scope: Scope, space: VectorSpace) -> Collection:
        """With its first index; or the one that was made in between."""
        if self._endings(scope) or folders.exists(folders.index_folder(self._folder, self._answering(scope))):
            return self._open_collection(scope)
        folders.forget_answering(self._folder, scope)
        self._collections[scope] = self._make_index(scope.at(FIRST_INDEX), Recipe(space), answers=True)
        return self._collections[scope]

    def _make_index(self, scope: Scope, recipe: Recipe, *, answers: bool = False) -> Collection:
        """Or the one that is there."""
        folder = folders.index_folder(self._folder, scope)
        if self._endings(scope) or folders.exists(folder):
            return self._open_collection(scope)
        self._collections[scope] = Collection.create(
            folder, scope, recipe, self._settings, self._changed, answers=answers
        )
        return self._collections[scope]

    def _hand_over(self, scope: Scope, held: str) -> None:
        """A kill leaves the old one answering or the new one. Here they are what no drop can take away any more."""
        old, new = self._open_collection(scope.at("")), self._open_collection(scope)
        if old is new:
            return
        old.gate.hand_over(held)
        try:
            folders.let_answer(self._folder, scope)
        except OSError as error:
            if not self._came_to_answer(scope):
                old.gate.open()
                raise StoreUnavailable(f"{scope.index} cannot be made to answer: {error}") from error
        self._collections[scope.at("")] = new
        new.gate.open()
        self._changed(scope)  # after it, so that no answer of the old one is kept for the new one's

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
        if self._endings(scope) or not folders.exists(folders.index_folder(self._folder, last)):
            raise unknown(scope)
        others = [] if scope.index else [each for each in folders.indexes_of(self._folder, scope) if each != answering]
        if not scope.index:
            self._collections.pop(scope, None)  # first: who comes now waits for this thread
        ended = [self._end_index(each) for each in (*others, last)]
        if not scope.index:
            folders.forget_answering(self._folder, scope)
            self._changed(scope)
        return ended

    def _end_index(self, scope: Scope) -> Future[None]:
        folder = folders.index_folder(self._folder, scope)
        folders.end_index(folder)
        collection = self._collections.pop(scope, None)  # none where it was never opened, be it that it cannot be
        rest = partial(shutil.rmtree, folder, ignore_errors=True) if collection is None else collection.drop
        self._ending[scope] = ending = self._enders.submit(rest)
        ending.add_done_callback(lambda _: self._ending.pop(scope))
        return ending

    def _endings(self, scope: Scope) -> list[Future[None]]:
        """Of this index, or of any of the collection's."""
        return [ending for each, ending in list(self._ending.items()) if scope in (each, each.at(""))]

    def _answering(self, scope: Scope) -> Scope:
        return folders.answering(self._folder, scope)

    def _changed(self, scope: Scope) -> None:
        self._versions.advance(scope.at(""))
