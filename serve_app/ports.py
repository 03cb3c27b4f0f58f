"""The seams: siblings of the domain meet here and never import each other. A fake of each takes ten lines."""

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
    DocumentPage,
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


class VectorStore(Protocol):
    """Documents and their passages, kept per scope.

    Any method raises StoreUnavailable if the backend cannot be reached in time. A method that takes the scope of a
    collection which does not exist raises NotFound, except `write`, which makes it, `fingerprints` and
    `indexed_documents`.
    """

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        """The stored fingerprint of each of these documents that is completely stored; empty for a new collection."""
        ...

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        """Those of these documents that are completely stored, as they were written, but that `Passage.tokens` is 0
        and a dense vector of unit length. One that is written meanwhile may be missing. Empty for a new collection."""
        ...

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        """Put these documents in, each replacing all passages of its former version; a passage that is stored just so
        is not written again. On return all of it is durable
        and is seen by every later query. If it fails or is cut off half-way, a document's fingerprint is absent until
        it is written again, so that repeating the call heals it.

        made_for: name of the index that the documents were cut and embedded for. Raises Conflict if another one
        answers by now, or if the collection has another space. Waits while writes are held back (Indexes.hold)."""
        ...

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        """Remove these documents with all their passages; how many existed. Idempotent."""
        ...

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        """One answer per query, in order. A query that fails (NotFound, InvalidInput, Conflict) gets its error as its
        answer and does not disturb the others."""
        ...

    async def document(self, scope: Scope, document_id: str) -> Document:
        """Raises NotFound."""
        ...

    async def scroll(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> DocumentPage:
        """Documents in a stable order; pass `cursor` of the page before to go on. Raises InvalidInput for a cursor
        that no page gave."""
        ...

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        """As `scroll`, in the same order and with the same cursors; the texts do not leave the backend."""
        ...

    async def version(self, scope: Scope) -> bytes | None:
        """Another one after every write, from before it is acknowledged, also of a collection that does not exist;
        None if this store cannot tell now. Asked for each search, before its answer is looked up: microseconds, or one
        short hop."""
        ...

    def version_now(self, scope: Scope) -> bytes | None:
        """The version, where that can be told without waiting; else None, which says nothing: ask `version`."""
        ...

    async def answering(self, scope: Scope) -> IndexInfo:
        """The index that answers."""
        ...

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        """Documents and passages that match."""
        ...

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        """By name. A tenant without any gets an empty list."""
        ...

    async def drop(self, scope: Scope) -> None:
        """Remove the collection and all that is in it; with a name in the scope, that index, unless it answers
        (Conflict)."""
        ...

    async def check(self) -> None:
        """Return if the store can answer now. Cheap: called by every health check."""
        ...

    async def close(self) -> None: ...


class Indexes(Protocol):
    """The indexes of a collection, of which one answers: a new one is built beside it and takes its place. Both stores
    are one. All methods of a VectorStore take a scope with an index's name as well; `write` and `delete_documents`
    take such a scope only while that index does not answer (else Conflict), so that a build which goes on after its
    switch spoils nothing. Raises as a VectorStore."""

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        """The one that answers first, the others by name. Raises NotFound."""
        ...

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        """An empty one, named by the scope; nothing where it is there. Raises NotFound for a collection that is not
        there, Conflict if the index has another recipe."""
        ...

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        """As `listing`, in the same order and with the same cursors: which version of each document is stored."""
        ...

    async def hold(self, scope: Scope, lease_s: float) -> str:
        """On return every write and delete that was acknowledged, or will be without having waited, can be read, and
        those that come wait until `switch`, `release`, or the end of the lease. Returns what those two ask for."""
        ...

    async def switch(self, scope: Scope, held: str) -> None:
        """From now on the index that the scope names answers; atomic, durable, and writes go on, into it. Searches that
        have begun end on the other one, which stays. Nothing where it answers already. Raises Conflict if the hold
        has ended, and then nothing has changed."""
        ...

    async def release(self, scope: Scope, held: str) -> None:
        """Writes go on. Nothing if the hold has ended."""
        ...


class IndexedStore(VectorStore, Indexes, Protocol):
    """What a store is."""


class Versions(Protocol):
    """Which state of a collection an answer belongs to, for a store that many processes write to and that counts
    nothing itself. Every process that writes to the store must use the same ones."""

    async def current(self, scope: Scope) -> bytes | None:
        """None while a change is under way, and while it cannot be told. Never raises, never takes long."""
        ...

    def changing(self, scope: Scope) -> AbstractAsyncContextManager[None]:
        """Around every change: after it the version is another one. Raises StoreUnavailable before the change if that
        cannot be promised, and within it when it takes so long that it no longer could be."""
        ...

    async def close(self) -> None: ...
