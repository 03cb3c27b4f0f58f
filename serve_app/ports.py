"""The Protocols between the packages of the domain, which never import each other. Each is what one kind of user needs,
so a fake of it takes ten lines."""

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
    """The embedding model's own tokenizer, seen from the chunker."""

    max_tokens: int  # longest text the model sees, special tokens included; the rest is cut off

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of each token of `text`, without special tokens and without truncation."""
        ...


class Embedder(Protocol):
    """Text to dense vectors, wherever the engine lives: in this replica, in a pool, or in a batch job's actor."""

    @property
    def space(self) -> VectorSpace: ...

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """One row per text, in order; the empty text has a vector too. Raises Overloaded, EngineUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a process embeds with. precision: what it computes in, as Release has it."""

    embedder: Embedder
    tokenizer: Tokenizer
    precision: str


class Reranker(Protocol):
    """How well passages answer a query, by a model that reads both together."""

    @property
    def identity(self) -> str:
        """Model, revision and precision: what the same pair always has the same score with."""
        ...

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        """(n,) float32, one per passage, in order; higher is better. Raises Overloaded, EngineUnavailable."""
        ...


class SparseEncoder(Protocol):
    """Text to BM25 term weights (the collection's inverse document frequency is applied by the store)."""

    def encode_passages(self, texts: Sequence[str]) -> list[SparseVector]: ...

    def encode_query(self, text: str) -> SparseVector: ...


class ActiveIndexStore(Protocol):
    """A store, as everybody sees it who must know which index of a collection is active.

    This holds for each of the Protocols that follow. Any method raises StoreUnavailable if the backend cannot be
    reached in time, and NotFound if the scope's collection does not exist, unless it says otherwise. A scope may have
    an index's name; without one, it stands for the active index."""

    async def active_index(self, scope: Scope) -> IndexInfo: ...


class SearchStore(ActiveIndexStore, Protocol):
    """What a Searcher needs of a store."""

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        """One result per query, in order. A query that fails (NotFound, InvalidInput, Conflict) gets its error as its
        result and does not disturb the others."""
        ...

    async def version(self, scope: Scope) -> bytes | None:
        """Another one after every write, from before it is acknowledged, also of a collection that does not exist;
        None if this store cannot tell now. A write to an index that is not active changes only the version of that
        index; all other changes of a collection change the versions of its indexes too. Asked for each search, before
        its answer is looked up: microseconds, or one short hop."""
        ...

    def version_now(self, scope: Scope) -> bytes | None:
        """The version if this process knows it without waiting. None only means that `version` must be asked."""
        ...


class IndexingStore(ActiveIndexStore, Protocol):
    """What an Indexer and the indexing job need of a store."""

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        """The stored fingerprint of each of these documents that is completely stored. Empty if the collection does
        not exist."""
        ...

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        """Those of these documents that are completely stored, as they were written, except that `Passage.tokens` is
        0 and a dense vector has unit length. A document that is being written may be missing. Empty if the collection
        does not exist."""
        ...

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        """Store these documents. Each replaces all passages of its former version; a passage that has not changed is
        not written again. The collection is made if it does not exist. On return the documents are durable, and every
        later query sees them. If the call fails half-way, the documents concerned have no fingerprint until they are
        written again, so repeating the call completes them.

        made_for: name of the index that the documents were cut and embedded for. Raises Conflict if another index is
        active by now, if the collection has another space, or if the scope names the active index: then a build that
        goes on after its switch cannot do damage. Waits while writes are held back (WriteHoldStore.hold). Raises
        InvalidInput, before anything is written, for a document that cannot be stored (see validation.py)."""
        ...


class DocumentStore(Protocol):
    """What the API's routes for documents need of a store."""

    async def document(self, scope: Scope, document_id: str) -> Document:
        """Raises NotFound if there is no such document, too."""
        ...

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        """Documents without their texts, in a stable order. cursor: of the page before. Raises InvalidInput for a
        cursor that no page returned."""
        ...

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        """Remove these documents with all their passages. Returns how many existed. Idempotent. Raises Conflict if the
        scope names the active index."""
        ...


class CollectionStore(Protocol):
    """What the API's routes for collections need of a store."""

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        """The tenant's collections by name; empty if there are none."""
        ...

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        """How many documents and passages match."""
        ...

    async def drop(self, scope: Scope) -> None:
        """Remove the collection with all its indexes. If the scope names an index, remove only that one; raises
        Conflict if it is active."""
        ...


class IndexBuildStore(ActiveIndexStore, Protocol):
    """What a reindexing needs of a store while it builds a new index beside the active one."""

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        """The active index first, then the others by name."""
        ...

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        """Make the index that the scope names, empty, unless it exists already. Raises Conflict if it exists with
        another recipe."""
        ...

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        """Which version of each document is stored, in the order and with the cursors of `listing`."""
        ...


class WriteHoldStore(Protocol):
    """What a reindexing needs of a store to activate its index without losing a write."""

    async def hold(self, scope: Scope, lease_s: float) -> str:
        """Hold the collection's writes back until `switch`, `release`, or the end of the lease. Once it returns, every
        write and delete that was acknowledged, or will be without having waited, can be read. Returns the holder that
        `switch` and `release` need. Raises Conflict if somebody else holds the writes back."""
        ...

    async def switch(self, scope: Scope, held: str) -> None:
        """Activate the index that the scope names, and end the hold: writes go on, into this index. Atomic and
        durable. Searches that have begun finish on the former index, which stays. Does nothing if the index is active
        already. Raises Conflict, and changes nothing, if the hold has ended."""
        ...

    async def release(self, scope: Scope, held: str) -> None:
        """End the hold without a switch. Does nothing if it has ended already."""
        ...


class VectorStore(
    SearchStore, IndexingStore, DocumentStore, CollectionStore, IndexBuildStore, WriteHoldStore, Protocol
):
    """A whole store: Qdrant Edge, a Qdrant server, or a client of either."""

    async def check(self) -> None:
        """Return if the store can serve queries now. Cheap: every health check calls it."""
        ...

    async def close(self) -> None: ...


class Versions(Protocol):
    """The version of each collection, for a store that many processes write to and that does not count its writes
    itself. Every process that writes to the store must share them."""

    async def current(self, scope: Scope) -> bytes | None:
        """None while a change is under way, and while the version is unknown. Never raises and never takes long."""
        ...

    def changing(self, scope: Scope) -> AbstractAsyncContextManager[None]:
        """Surrounds every change; afterwards the version is a new one. Raises StoreUnavailable before the change if
        the new version cannot be guaranteed, and during the change once it takes too long for that."""
        ...

    async def close(self) -> None: ...
