"""The store of production: a Qdrant server or cluster."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import InvalidInput, NotFound, PlatformError, StoreUnavailable
from serve_app.ports import Versions
from serve_app.settings import StoreSettings
from serve_app.store.indexes import answers_already, is_answering, require_made_for, require_same_recipe
from serve_app.store.payload import (
    DOCUMENT,
    DOCUMENT_FIELDS,
    KIND,
    LISTED_FIELDS,
    PASSAGE,
    RECORD_FIELDS,
    VERSION_FIELDS,
    Payload,
    require_storable,
    to_document,
    to_listed,
    to_version,
)
from serve_app.store.points import StoredPoint, is_same, passage_points, record_point, to_indexed
from serve_app.store.qdrant_answering import MAX_KNOWN, QdrantAnswering, physical_name
from serve_app.store.qdrant_calls import QdrantCalls, connect
from serve_app.store.qdrant_collections import QdrantCollections, conflict
from serve_app.store.qdrant_requests import from_record, in_requests, to_filter, to_point
from serve_app.store.qdrant_search import QdrantSearch
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
    document_point_id,
    passage_point_id,
)

T = TypeVar("T")

MAX_IDS = 1_000  # in one request
MAX_VECTORS = 256  # in one answer
COLLECTIONS_AT_ONCE = 8  # that are counted for a list


class QdrantStore:
    """ports.VectorStore over a Qdrant server; safe for many processes at once.

    With several replicas of a shard a write is acknowledged by a quorum of them and ordered by one leader, and a read
    asks a quorum (3 and more) or any one that is up to date (2); see `write_quorum`. Two processes that write one and
    the same document at the same moment can leave passages of both, until it changes again.
    """

    def __init__(self, client: AsyncQdrantClient, settings: StoreSettings, versions: Versions | None = None) -> None:
        self._client = client
        self._versions = versions
        self._seen: dict[Scope, bytes] = {}  # the version that what is known of the collection is no older than
        self._url = (settings.url or "").encode()
        self._ask = QdrantCalls(settings.timeout_s)
        self._collections = QdrantCollections(client, settings, self._ask)
        self._answering = QdrantAnswering(client, self._ask)
        self._consistency = models.ReadConsistencyType.QUORUM if settings.replicas > 2 else None
        self._ordering = models.WriteOrdering.MEDIUM if settings.replicas > 1 else models.WriteOrdering.WEAK
        self._search = QdrantSearch(client, self._ask, self._collections, self._answering, self._consistency)
        self._writing: defaultdict[Scope, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def connect(cls, settings: StoreSettings, versions: Versions | None = None) -> QdrantStore:
        """Makes no call yet. Raises ConfigurationError if the URL cannot be one of a Qdrant server."""
        return cls(connect(settings), settings, versions)

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        try:
            return await self._read(scope, lambda index: self._fingerprints(index, document_ids))
        except NotFound:
            return {}

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        try:
            return await self._read(scope, lambda index: self._indexed_documents(index, document_ids))
        except NotFound:
            return {}

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        documents = list({indexed.document.id: indexed for indexed in documents}.values())
        with contextlib.suppress(NotFound):
            await self._collections.require_space(await self._answering.resolve(scope), space)
        require_storable(documents, space.dim)  # before a collection is made for it

        async def put(index: Scope) -> None:
            require_made_for(made_for, index)
            of_a_new_one = index.index == FIRST_INDEX and not scope.index
            made = self._collections.ensure(index, Recipe(space)) if of_a_new_one else self._collections.recipe(index)
            if (recipe := await made).space != space:
                raise conflict(scope, recipe.space, space)
            await self._put(index, documents)

        await self._change(scope, put)

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        counts = [0]

        async def delete(index: Scope) -> None:
            counts.append(await self._delete_documents(index, document_ids))

        await self._change(scope, delete)
        return max(counts)  # it may have been done twice

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        return await self._search.query_batch(queries)

    async def document(self, scope: Scope, document_id: str) -> Document:
        records = await self._read(scope, lambda index: self._records(index, [document_id], list(DOCUMENT_FIELDS)))
        if not records:
            raise NotFound(f"there is no document {document_id[:200]!r} in collection {scope.collection!r}")
        return to_document(records[0])

    async def scroll(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> DocumentPage:
        records, following = await self._scrolled(scope, DOCUMENT_FIELDS, filter, limit, cursor)
        return DocumentPage(tuple(map(to_document, records)), following)

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        records, following = await self._scrolled(scope, LISTED_FIELDS, filter, limit, cursor)
        return ListingPage(tuple(map(to_listed, records)), following)

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        records, following = await self._scrolled(scope, VERSION_FIELDS, None, limit, cursor)
        return InventoryPage(tuple(map(to_version, records)), following)

    def version_now(self, scope: Scope) -> None:
        """Another process has it, if anyone."""

    async def version(self, scope: Scope) -> bytes | None:
        """The server counts nothing, so it is as `versions` say. None without them: other processes write as well.

        Two servers' answers are never one another's, though their versions may be kept in one place."""
        version = None if self._versions is None else await self._versions.current(scope)
        if version is None:
            return None
        if self._seen.get(scope) != version:  # another process may have made the collection anew
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
                except NotFound:  # dropped since
                    return None

        found = await asyncio.gather(*(info(name) for name in await self._collections.names(tenant)))
        return [one for one in found if one is not None]

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
        async with self._changing(scope):
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
        answering = await self._answering.resolve(scope.at(""), fresh=True)
        index = scope if scope.index else answering
        return IndexInfo(index, await self._collections.recipe(index), index == answering)

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
        async with self._changing(scope.at("")), self._answering.fenced(old, held):
            await self._answering.let_answer(scope)
        await self._answering.release(old, held)

    async def release(self, scope: Scope, held: str) -> None:
        await self._answering.release(await self._answering.resolve(scope.at(""), fresh=True), held)

    async def check(self) -> None:
        """Asks for a collection that cannot be, which also proves the API key."""
        await self._ask(self._client.collection_exists, collection_name="~")

    async def close(self) -> None:
        await self._client.close()
        if self._versions is not None:
            await self._versions.close()

    async def _read(self, scope: Scope, read: Callable[[Scope], Awaitable[T]]) -> T:
        """Of the index that answers; once more where it is gone since that was last looked up."""
        index = await self._answering.resolve(scope)
        try:
            return await read(index)
        except NotFound:
            if (now := await self._answering.resolve(scope, fresh=True)) == index:
                raise
            return await read(now)

    async def _change(self, scope: Scope, change: Callable[[Scope], Awaitable[None]]) -> None:
        """On the index that answers, and that still does when it is done; see qdrant_answering."""
        if scope.index:
            if scope == await self._answering.resolve(scope.at(""), fresh=True):
                raise answers_already(scope.index)
            async with self._writing[scope]:
                return await change(scope)
        was_gone = False
        while True:
            index = await self._answering.unheld(scope)
            try:
                async with self._changing(scope):
                    await change(index)
            except NotFound:  # dropped since, with its collection, which a write makes anew
                if was_gone:
                    raise
                was_gone = True
                continue
            if await self._answering.was_open(index):
                return None

    def _forget(self, scope: Scope) -> None:
        self._collections.forget(self._answering.forget(scope))

    @contextlib.asynccontextmanager
    async def _changing(self, scope: Scope) -> AsyncIterator[None]:
        """One change after the other, in this process; and no version while it lasts."""
        async with self._writing[scope]:
            if self._versions is None:
                yield
            else:
                async with self._versions.changing(scope):
                    yield

    # Below, every scope has an index's name.

    async def _fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        records = await self._records(scope, document_ids, ["document_id", "fingerprint"])
        return {r["document_id"]: r["fingerprint"] for r in records if "fingerprint" in r}

    async def _indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        records = await self._records(scope, document_ids, list(RECORD_FIELDS))
        found: dict[str, IndexedDocument] = {}
        for payload in records:
            id = payload["document_id"]
            if (indexed := to_indexed(payload, await self._passages(scope, {id: payload["passages"]}))) is not None:
                found[id] = indexed
        now = await self._fingerprints(scope, list(found))  # what was written meanwhile may be of both versions
        return {id: indexed for id, indexed in found.items() if now.get(id) == indexed.fingerprint}

    async def _put(self, scope: Scope, documents: Sequence[IndexedDocument]) -> None:
        """A cluster applies a request shard by shard, so no order within one counts. Hence in this order, each step
        acknowledged before the next: records without fingerprints, passages, removal of what is stale, records with
        fingerprints."""
        present = await self._present(scope, documents)
        changed = (
            point
            for indexed in documents
            for point in passage_points(scope, indexed)
            if not is_same(point, present.get(point.id))
        )
        await self._upsert(scope, (record(scope, indexed, None) for indexed in documents))
        await self._upsert(scope, changed)
        for part in parts(documents):
            await self._delete(scope, stale_passages(scope, part))
        await self._upsert(scope, (record(scope, indexed, indexed.fingerprint) for indexed in documents))

    async def _delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        """First their fingerprints, so that a document which is cut off in the middle cannot pass for a whole one."""
        existing = 0
        for ids in parts(list(dict.fromkeys(document_ids))):
            existing += len(await self._records(scope, ids, ["document_id"]))
            await self._ask(
                self._client.delete_payload,
                collection_name=physical_name(scope),
                keys=["fingerprint"],
                points=models.FilterSelector(filter=records_of(scope, ids)),
                ordering=self._ordering,
            )
            await self._delete(scope, models.Filter(must=[of_documents(ids)]))
        return existing

    async def _present(self, scope: Scope, documents: Sequence[IndexedDocument]) -> dict[str, StoredPoint]:
        """By id, the stored passages that the documents' own would replace."""
        records = await self._records(scope, [one.document.id for one in documents], ["document_id", "passages"])
        wanted = {one.document.id: len(one.passages) for one in documents}
        sizes = {(id := payload["document_id"]): min(payload["passages"], wanted[id]) for payload in records}
        return {point.id: point for point in await self._passages(scope, sizes)}

    async def _passages(self, scope: Scope, sizes: Mapping[str, int]) -> list[StoredPoint]:
        """With their vectors. sizes: document id → how many it may have."""
        ids = [passage_point_id(scope, id, number) for id, passages in sizes.items() for number in range(passages)]
        points: list[StoredPoint] = []
        for some in parts(ids, MAX_VECTORS):
            records = await self._ask(
                self._client.retrieve,
                collection_name=physical_name(scope),
                ids=some,
                with_payload=True,
                with_vectors=True,
                consistency=self._consistency,
            )
            points += map(from_record, records)
        return points

    async def _records(self, scope: Scope, document_ids: Sequence[str], fields: list[str]) -> list[Payload]:
        """Payloads of the documents that are there."""
        payloads: list[Payload] = []
        for ids in parts(document_ids):
            records = await self._ask(
                self._client.retrieve,
                collection_name=physical_name(scope),
                ids=[document_point_id(scope, id) for id in ids],
                with_payload=fields,
                consistency=self._consistency,
            )
            payloads += [record.payload or {} for record in records]
        return payloads

    async def _scrolled(
        self, scope: Scope, fields: Iterable[str], filter: JsonObject | None, limit: int, cursor: str | None
    ) -> tuple[list[Payload], str | None]:
        """These fields of one page of documents' records, and the cursor of the next page. The scope may have no
        index's name."""
        records, following = await self._read(
            scope,
            lambda index: self._ask(
                self._client.scroll,
                collection_name=physical_name(index),
                scroll_filter=to_filter(filter, DOCUMENT),
                limit=limit,
                offset=None if cursor is None else read_cursor(cursor),
                with_payload=list(fields),
                consistency=self._consistency,
            ),
        )
        return [record.payload or {} for record in records], None if following is None else str(following)

    async def _upsert(self, scope: Scope, points: Iterable[StoredPoint]) -> None:
        for request in in_requests(map(to_point, points)):
            await self._ask(
                self._client.upsert,
                collection_name=physical_name(scope),
                points=request,
                ordering=self._ordering,
            )

    async def _delete(self, scope: Scope, where: models.Filter) -> None:
        await self._ask(
            self._client.delete,
            collection_name=physical_name(scope),
            points_selector=models.FilterSelector(filter=where),
            ordering=self._ordering,
        )


def record(scope: Scope, indexed: IndexedDocument, fingerprint: str | None) -> StoredPoint:
    return record_point(scope, indexed, len(indexed.passages), fingerprint)


def parts(items: Sequence[T], size: int = MAX_IDS) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def of_documents(document_ids: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key="document_id", match=models.MatchAny(any=list(document_ids)))


def records_of(scope: Scope, document_ids: Sequence[str]) -> models.Filter:
    """The records that exist; a list of ids would be an error where one does not."""
    return models.Filter(must=[models.HasIdCondition(has_id=[document_point_id(scope, id) for id in document_ids])])


def stale_passages(scope: Scope, documents: Sequence[IndexedDocument]) -> models.Filter:
    """Passages of these documents that are not in their present version."""
    present = [
        passage_point_id(scope, indexed.document.id, number)
        for indexed in documents
        for number in range(len(indexed.passages))
    ]
    of_kind = models.FieldCondition(key=KIND, match=models.MatchValue(value=PASSAGE))
    return models.Filter(
        must=[of_kind, of_documents([indexed.document.id for indexed in documents])],
        must_not=[models.HasIdCondition(has_id=present)],
    )


def read_cursor(cursor: str) -> str:
    try:
        return str(uuid.UUID(cursor))
    except ValueError:
        raise InvalidInput(f"cursor {cursor[:80]!r} is not one that a page before gave") from None
