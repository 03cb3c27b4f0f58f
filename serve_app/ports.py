"""The Protocols between the domain packages, which never import each other. Each Protocol serves one kind of caller, so
a fake takes ten lines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from serve_app.errors import PlatformError
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.types import (
    CollectionInfo,
    Document,
    Embeddings,
    IndexedDocument,
    IndexInfo,
    InventoryPage,
    JsonObject,
    Lane,
    ListingPage,
    Recipe,
    Scope,
    SparseVector,
    Vector,
    VectorSpace,
)


class Tokenizer(Protocol):
    """The embedding model's tokenizer, as the chunker uses it."""

    max_tokens: int  # longest text that the model reads, special tokens included; the rest is cut off

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of each token of `text`, without special tokens and without truncation."""
        ...


class Embedder(Protocol):
    """Turns texts into dense vectors. The engine runs in this replica, in a pool, or in an actor of a batch job."""

    @property
    def space(self) -> VectorSpace: ...

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """One row per text, in order; the empty text has a vector too. Raises Overloaded, EngineUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a process embeds with. precision: number format of its computation, as in Release."""

    embedder: Embedder
    tokenizer: Tokenizer
    precision: str


class Reranker(Protocol):
    """Scores how well passages answer a query. The model (a cross-encoder) reads query and passage together."""

    @property
    def identity(self) -> str:
        """Model, revision and precision. Under the same identity, a pair always has the same score."""
        ...

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        """(n,) float32, one per passage, in order; higher is better. Raises Overloaded, EngineUnavailable."""
        ...


class SparseEncoder(Protocol):
    """Turns texts into BM25 term weights. The store applies the collection's inverse document frequency."""

    def encode_passages(self, texts: Sequence[str]) -> list[SparseVector]: ...

    def encode_query(self, text: str) -> SparseVector: ...


class ActiveIndexStore(Protocol):
    """What a caller needs that only reads which index of a collection is active.

    These rules hold for all store Protocols below. Any method raises StoreUnavailable if the backend cannot be reached
    in time, and NotFound if the scope's collection does not exist, unless its docstring says otherwise. A scope may
    name an index; without a name, it means the active index."""

    async def active_index(self, scope: Scope) -> IndexInfo: ...


class SearchStore(ActiveIndexStore, Protocol):
    """What a Searcher needs of a store."""

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        """One result per query, in order. The result of a query that fails (NotFound, InvalidInput, Conflict) is its
        error; the other queries are not affected."""
        ...

    async def version(self, scope: Scope) -> bytes | None:
        """The collection's version. Every write changes it before the write is acknowledged. A write to an index that
        is not active changes only the version of that index; every other change of a collection changes the versions
        of all its indexes. A collection that does not exist has a version, too. None if the store does not know the
        version at the moment. Every search calls this before it reads the cache, so it takes microseconds, or one short
        hop."""
        ...

    def version_now(self, scope: Scope) -> bytes | None:
        """The version if this process knows it. Never blocks. None only means that the caller must await `version`."""
        ...


class IndexingStore(ActiveIndexStore, Protocol):
    """What an Indexer and the indexing job need of a store."""

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        """The stored fingerprint of each of these documents that is completely stored. Empty if the collection does
        not exist."""
        ...

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        """The documents among these that are completely stored, by id. They are as they were written, except that
        `Passage.tokens` is 0 and dense vectors have unit length. A document that is being written may be missing. Empty
        if the collection does not exist."""
        ...

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        """Store these documents. Each replaces all passages of its former version; a passage that has not changed is
        not written again. Creates the collection if it does not exist. On return the documents are durable, and every
        later query sees them. If the call fails half-way, unfinished documents have no fingerprint; repeating the call
        completes them.

        made_for: name of the index whose model and chunking the documents were made with. Waits while writes are held
        back (WriteHoldStore.hold).

        Raises Conflict if `made_for` is not the active index, or if the collection has another space. Raises Conflict
        if the scope names the active index, so a build that runs on after its switch does no damage. Raises
        InvalidInput, before anything is written, for a document that cannot be stored (see validation.py)."""
        ...


class DocumentStore(Protocol):
    """What the API's routes for documents need of a store."""

    async def document(self, scope: Scope, document_id: str) -> Document:
        """The document with its text. Raises NotFound if it does not exist."""
        ...

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        """One page of the documents, without their texts, in a stable order. cursor: from the previous page. Raises
        InvalidInput for a cursor that no page returned."""
        ...

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        """Remove these documents with all their passages. Returns how many existed. Idempotent. Raises Conflict if the
        scope names the active index."""
        ...


class CollectionStore(Protocol):
    """What the API's routes for collections need of a store."""

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        """The tenant's collections, sorted by name. Empty if there are none."""
        ...

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        """The collection with the number of documents and passages that match the filter."""
        ...

    async def drop(self, scope: Scope) -> None:
        """Remove the collection with all its indexes. If the scope names an index, remove only that one; raises
        Conflict if it is active."""
        ...


class IndexBuildStore(ActiveIndexStore, Protocol):
    """What a reindexing needs of a store to build a new index beside the active index."""

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        """The active index first, then the others, sorted by name."""
        ...

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        """Create the index that the scope names, empty. Does nothing if it exists already; raises Conflict if it exists
        with another recipe."""
        ...

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        """Which version of each document is stored, in the order and with the cursors of `listing`."""
        ...


class WriteHoldStore(Protocol):
    """What a reindexing needs of a store to activate its index without losing a write."""

    async def hold(self, scope: Scope, lease_s: float) -> str:
        """Hold the collection's writes back until `switch`, `release`, or the end of the lease. On return, all writes
        and deletes that did not wait for the hold can be read. Returns the holder that `switch` and `release` need.
        Raises Conflict if another holder holds the writes back."""
        ...

    async def switch(self, scope: Scope, held: str) -> None:
        """Activate the index that the scope names, and end the hold: writes go on, into this index. Atomic and
        durable. Searches that are under way finish on the former index, which is kept. Does nothing if the index is
        active already. Raises Conflict, and changes nothing, if the hold has ended."""
        ...

    async def release(self, scope: Scope, held: str) -> None:
        """End the hold without a switch. Does nothing if it has ended already."""
        ...


class VectorStore(
    SearchStore, IndexingStore, DocumentStore, CollectionStore, IndexBuildStore, WriteHoldStore, Protocol
):
    """A whole store: Qdrant Edge, a Qdrant server, or a client of either."""

    async def check(self) -> None:
        """Returns if the store can serve queries now; raises otherwise. Cheap: every health check calls it."""
        ...

    async def close(self) -> None: ...


class Versions(Protocol):
    """The version of each collection, for a store that does not count its writes itself. Every process that writes to
    the store must use the same versions."""

    async def current(self, scope: Scope) -> bytes | None:
        """The version; None while a change is under way or the version is unknown. Never raises. Returns quickly."""
        ...

    def changing(self, scope: Scope) -> AbstractAsyncContextManager[None]:
        """A context that every change runs in. After it, the collection has a new version. Raises StoreUnavailable on
        entry if it cannot guarantee a new version, and during a change that takes too long to guarantee it."""
        ...

    async def close(self) -> None: ...
