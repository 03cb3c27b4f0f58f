"""The embedded store: Qdrant Edge in this process, with one shard per index. No server to install."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeVar

from serve_app.errors import NotFound, PlatformError, StoreBroken, StoreFull, StoreUnavailable
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.collection import Collection
from serve_app.store.edge.collections import EdgeCollections
from serve_app.store.edge.gate import NotNow
from serve_app.store.edge.optimize import Optimizer
from serve_app.store.edge.payload_indexes import MAX_INDEXES, facet_indexes, filter_indexes
from serve_app.store.edge.query import answer
from serve_app.store.edge.reads import counted, fingerprints, indexed_documents, inventory, retrieve, scrolled
from serve_app.store.edge.versions import VersionCounters
from serve_app.store.indexes import from_index, require_made_for, require_same_recipe, unknown
from serve_app.store.payload import DOCUMENT_FIELDS, LISTED_FIELDS, to_document, to_listed
from serve_app.types import (
    CollectionInfo,
    Document,
    IndexedDocument,
    IndexInfo,
    InventoryPage,
    JsonObject,
    ListingPage,
    Recipe,
    Scope,
    VectorSpace,
)

LOG = logging.getLogger(__name__)
READERS = 4  # so a slow read does not block others; more are not faster, as calls into a shard hold the GIL
HELD_POLL_S = 0.02  # how often a write that is held back tries again
T = TypeVar("T")


class EdgeStore:
    """ports.VectorStore over Qdrant Edge. Only one process at a time can open its folder.

    A write is handed to the operating system before it returns, so it survives the death of this process at any time.
    It survives a power failure once Edge has flushed it (every few thousand points, when an optimisation begins, and on
    close). The store optimises itself (see optimize.py). It blocks the event loop for one call into a shard at most,
    because that holds the GIL: about 10 ms, and longer to open a large collection.
    """

    def __init__(self, folder: Path, settings: StoreSettings, lock: BinaryIO) -> None:
        self._folder, self._lock_file = folder, lock
        self._versions = VersionCounters(folder)
        self._optimizer = Optimizer(settings)
        self._collections = EdgeCollections(folder, settings, self._optimizer.consider, self._versions.advance)
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    @classmethod
    def open(cls, data_dir: Path, settings: StoreSettings) -> EdgeStore:
        """Open the store in `data_dir`/store. Raises StoreLocked if another process has it open, ConfigurationError if
        the folder cannot be used, and StoreUnavailable if it cannot be written, as on a full disk."""
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
            collection = await self._collections.get_for(scope, space, documents)
            require_made_for(made_for, collection.scope)
            return collection

        while True:
            try:
                collection, _ = await self._change(
                    open_for_them, lambda it: it.write(documents, by_name=bool(scope.index))
                )
                break
            except NotFound:  # the collection is being dropped; create it again afterwards
                if ending := self._collections.endings(scope):
                    await asyncio.wait([asyncio.wrap_future(each) for each in ending])
                elif scope.index:
                    raise
        await self._read(lambda: self._optimizer.consider(collection))

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        _, deleted = await self._change(
            lambda: self._collections.get(scope), lambda it: it.delete(document_ids, by_name=bool(scope.index))
        )
        return deleted

    async def _change(
        self, find: Callable[[], Awaitable[Collection]], job: Callable[[Collection], T]
    ) -> tuple[Collection, T]:
        """Run the job in the writer thread of the collection that `find` returns. While writes are held back, it waits
        and calls `find` again, because another index may be active by then."""
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
            collection = await self._collections.get(scope)
            try:
                return await self._answer_of(collection, queries)
            except NotFound:  # dropped in between
                if (now := await self._collections.get(scope)) is collection:
                    raise
                return await self._answer_of(now, queries)
        except StoreBroken:
            raise
        except PlatformError as error:  # an unreadable collection fails only its own queries
            if self._collections.closed:
                raise
            return [error] * len(queries)

    async def _answer_of(
        self, collection: Collection, queries: Sequence[StoreQuery]
    ) -> list[StoreResult | PlatformError]:
        indexes = collection.indexes
        indexes.make_soon(wanted for query in queries for wanted in filter_indexes(query.filter))
        missing = indexes.missing(chain.from_iterable(facet_indexes(query.facets) for query in queries))
        refused: StoreFull | None = None  # fails only queries with facets, which need the indexes
        if missing:
            making = collection.submit(lambda: indexes.make(missing, MAX_INDEXES))
            try:
                await asyncio.wrap_future(making)
            except StoreFull as error:
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
                if self._collections.closed or isinstance(error, StoreBroken):
                    raise
                LOG.warning("collection %s of tenant %s is not listed: %s", name, tenant, error)
        return found

    async def drop(self, scope: Scope) -> None:
        await self._collections.drop(scope)

    async def active_index(self, scope: Scope) -> IndexInfo:
        collection = await self._collections.get(scope)
        return IndexInfo(collection.scope, collection.recipe, collection.gate.is_active)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        scopes = await self._read(lambda: folders.indexes_of(self._folder, scope.at("")))
        found = [await self.active_index(each) for each in scopes]
        if not any(each.is_active for each in found):
            raise unknown(scope)
        return sorted(found, key=lambda each: not each.is_active)

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self._collections.get(scope.at(""))
        made = await self._collections.make_index(scope, recipe)
        require_same_recipe(scope, made.recipe, recipe)

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        return await self._read_of(scope, lambda it: inventory(it, limit, cursor))

    async def hold(self, scope: Scope, lease_s: float) -> str:
        collection = await self._collections.get(scope.at(""))
        return await asyncio.wrap_future(collection.submit(lambda: collection.gate.hold(lease_s)))

    async def switch(self, scope: Scope, held: str) -> None:
        await self._collections.activate(scope, held)

    async def release(self, scope: Scope, held: str) -> None:
        (await self._collections.get(scope.at(""))).gate.release(held)

    async def optimize(self, scope: Scope) -> None:
        """Optimise now, even if little is unindexed. Otherwise the store does so when it is worth it. Raises
        StoreUnavailable if it fails; the collection is then unchanged."""
        collection = await self._collections.get(scope)
        await asyncio.wrap_future(self._optimizer.submit(collection))

    async def check(self) -> None:
        self._collections.require_open()
        for collection in list(self._collections.opened.values()):
            if collection.broken is not None:
                raise collection.broken

    async def close(self) -> None:
        """Stop a running optimisation, wait for the calls that are under way, and unlock the folder. Idempotent."""
        if not self._collections.closed:
            self._collections.refuse()
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._optimizer.close()
        self._readers.shutdown(wait=True)
        self._collections.close()
        self._lock_file.close()

    async def _read(self, job: Callable[[], T]) -> T:
        """Run the job in a reader thread."""
        return await self._collections.run_in(self._readers, job)

    async def _read_of(self, scope: Scope, read: Callable[[Collection], T]) -> T:
        """Run `read` on the scope's index. If the index was dropped meanwhile, run it on the index that replaced it."""
        collection = await self._collections.get(scope)
        try:
            return await self._read(partial(read, collection))
        except NotFound:
            if (now := await self._collections.get(scope)) is collection:
                raise
            return await self._read(partial(read, now))
