"""The store for production: a Qdrant server or cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import NotFound, PlatformError
from serve_app.ports import Versions
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.settings import StoreSettings
from serve_app.store.indexes import require_made_for, unknown
from serve_app.store.payload import (
    DOCUMENT,
    DOCUMENT_FIELDS,
    LISTED_FIELDS,
    PASSAGE,
    VERSION_FIELDS,
    Payload,
    require_storable,
    to_document,
    to_listed,
    to_version,
)
from serve_app.store.qdrant.active_index import MAX_KNOWN, IndexState, QdrantActiveIndex
from serve_app.store.qdrant.calls import QdrantCalls, connect
from serve_app.store.qdrant.changes import QdrantChanges
from serve_app.store.qdrant.collections import QdrantCollections, conflict
from serve_app.store.qdrant.reads import QdrantReads
from serve_app.store.qdrant.requests import to_filter
from serve_app.store.qdrant.search import QdrantSearch
from serve_app.store.qdrant.switch import QdrantSwitch
from serve_app.store.qdrant.writes import QdrantWrites
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

T = TypeVar("T")

COLLECTIONS_AT_ONCE = 8  # counted at once for a list of collections


class QdrantStore:
    """ports.VectorStore over a Qdrant server. Many processes may use one server at once.

    With several replicas of a shard, one leader orders the writes, and a quorum of replicas acknowledges each write
    (see `write_quorum`). A read asks a quorum of 3 or more replicas, or any one of 2 that is up to date. If two
    processes write the same document at the same time, passages of both versions can remain until it changes again.
    """

    def __init__(self, client: AsyncQdrantClient, settings: StoreSettings, versions: Versions | None = None) -> None:
        self._client = client
        self._versions = versions
        self._seen: dict[Scope, bytes] = {}  # version at which the cached facts about a collection were last cleared
        self._url = (settings.url or "").encode()
        self._ask = QdrantCalls(settings.timeout_s)
        self._collections = QdrantCollections(client, settings, self._ask)
        self._active_index = QdrantActiveIndex(client, self._ask)
        consistency = models.ReadConsistencyType.QUORUM if settings.replicas > 2 else None
        ordering = models.WriteOrdering.MEDIUM if settings.replicas > 1 else models.WriteOrdering.WEAK
        self._search = QdrantSearch(client, self._ask, self._collections, self._active_index, consistency)
        self._reads = QdrantReads(client, self._ask, consistency)
        self._writes = QdrantWrites(client, self._ask, self._reads, ordering)
        self._changes = QdrantChanges(self._active_index, versions)
        self._switch = QdrantSwitch(self._collections, self._active_index, self._changes)

    @classmethod
    def connect(cls, settings: StoreSettings, versions: Versions | None = None) -> QdrantStore:
        """Connects at the first call. Raises ConfigurationError if the URL is not one of a Qdrant server."""
        return cls(connect(settings), settings, versions)

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        try:
            return await self._read(scope, lambda index: self._reads.fingerprints(index, document_ids))
        except NotFound:
            return {}

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        try:
            return await self._read(scope, lambda index: self._reads.indexed_documents(index, document_ids))
        except NotFound:
            return {}

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        documents = list({indexed.document.id: indexed for indexed in documents}.values())

        async def put(state: IndexState) -> None:
            require_made_for(made_for, state.index)
            if state.info is None and scope.index:
                raise unknown(scope)
            recipe = Recipe(space) if state.info is None else self._collections.learn(state.index, state.info)
            if recipe.space != space:
                raise conflict(scope, recipe.space, space)
            require_storable(documents, space.dim)
            if state.info is None:
                await self._collections.ensure(state.index, recipe)
                return
            await self._collections.index_fields(state.index)
            await self._writes.put(state.index, documents)

        await self._changes.change(scope, put)

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        counts = [0]

        async def delete(state: IndexState) -> None:
            if state.info is None:
                raise unknown(scope)
            counts.append(await self._writes.delete_documents(state.index, document_ids))

        await self._changes.change(scope, delete)
        return max(counts)  # it may have run twice

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        return await self._search.query_batch(queries)

    async def document(self, scope: Scope, document_id: str) -> Document:
        records = await self._read(
            scope, lambda index: self._reads.records(index, [document_id], list(DOCUMENT_FIELDS))
        )
        if not records:
            raise NotFound(f"there is no document {document_id[:200]!r} in collection {scope.collection!r}")
        return to_document(records[0])

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        records, following = await self._page(scope, LISTED_FIELDS, filter, limit, cursor)
        return ListingPage(tuple(map(to_listed, records)), following)

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        records, following = await self._page(scope, VERSION_FIELDS, None, limit, cursor)
        return InventoryPage(tuple(map(to_version, records)), following)

    def version_now(self, scope: Scope) -> None:
        """Always None, because the version is kept in another process."""

    async def version(self, scope: Scope) -> bytes | None:
        """The version in `versions`, because the server does not count writes. None without `versions`, because other
        processes may write, too.

        It includes the server's URL, so collections on different servers never have the same version."""
        if self._versions is None or (version := await self._versions.current(scope)) is None:
            return None
        if scope.index:  # the version of the collection is part of it, because it counts writes to the active index
            collection = await self.version(scope.at(""))
            return None if collection is None else collection + version
        if self._seen.get(scope) != version:  # another process may have recreated the collection
            self._forget(scope)
            if len(self._seen) >= MAX_KNOWN:
                self._seen.clear()
            self._seen[scope] = version
        return version + self._url

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        async def counted(index: Scope) -> CollectionInfo:
            space, documents, passages = await asyncio.gather(
                self._collections.space(index),
                self._search.count(index, to_filter(filter, DOCUMENT)),
                self._search.count(index, to_filter(filter, PASSAGE)),
            )
            return CollectionInfo(scope.collection, documents, passages, space)

        return await self._read(scope, counted)

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        at_once = asyncio.Semaphore(COLLECTIONS_AT_ONCE)

        async def info(name: str) -> CollectionInfo | None:
            async with at_once:
                try:
                    return await self.count(Scope(tenant, name))
                except NotFound:  # dropped in between
                    return None

        found = await asyncio.gather(*(info(name) for name in await self._collections.names(tenant)))
        return [one for one in found if one is not None]

    async def drop(self, scope: Scope) -> None:
        await self._switch.drop(scope)

    async def active_index(self, scope: Scope) -> IndexInfo:
        return await self._switch.active_index(scope)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        return await self._switch.indexes(scope)

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self._switch.make_index(scope, recipe)

    async def hold(self, scope: Scope, lease_s: float) -> str:
        return await self._switch.hold(scope, lease_s)

    async def switch(self, scope: Scope, held: str) -> None:
        await self._switch.switch(scope, held)

    async def release(self, scope: Scope, held: str) -> None:
        await self._switch.release(scope, held)

    async def check(self) -> None:
        """Asks the server for a collection with an impossible name, which also checks the API key."""
        await self._ask(self._client.collection_exists, collection_name="~")

    async def close(self) -> None:
        await self._client.close()
        if self._versions is not None:
            await self._versions.close()

    async def _read(self, scope: Scope, read: Callable[[Scope], Awaitable[T]]) -> T:
        """Run `read` on the scope's index. If the active index was dropped, resolve it again and run `read` on that."""
        index = await self._active_index.resolve(scope)
        try:
            return await read(index)
        except NotFound:
            if (now := await self._active_index.resolve(scope, fresh=True)) == index:
                raise
            return await read(now)

    async def _page(
        self, scope: Scope, fields: Iterable[str], filter: JsonObject | None, limit: int, cursor: str | None
    ) -> tuple[list[Payload], str | None]:
        return await self._read(scope, lambda index: self._reads.scrolled(index, fields, filter, limit, cursor))

    def _forget(self, scope: Scope) -> None:
        self._collections.forget(self._active_index.forget(scope))
