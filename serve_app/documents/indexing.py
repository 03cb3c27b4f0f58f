"""Documents → what the store keeps: checked, cut, embedded, written; what did not change is left alone.

The pure pieces (`validate`, `fingerprint`, `cut`) are the batch job's as well; `Indexer` is the API's loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from serve_app.documents.chunking import CHUNKER_VERSION, chunk, embedding_title
from serve_app.documents.reuse import digest, known_vectors
from serve_app.errors import Conflict, InvalidInput, NotFound, Overloaded, UnreadableDocument
from serve_app.ports import Embedder, IndexingStore, ServedModel, SparseEncoder, Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.types import (
    Document,
    IndexedDocument,
    IndexedPassage,
    Lane,
    Passage,
    Recipe,
    Scope,
    Vector,
    VectorSpace,
    not_served,
)
from serve_app.validation import storable, validate

SLICE_PASSAGES = 256  # embedded and written together: a big upload does not keep searches waiting
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # while the embedder is overloaded; each is twice the one before


@dataclass(frozen=True, slots=True)
class FailedDocument:
    id: str
    error: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """Every document is counted in exactly one of indexed, unchanged and failed. passages: of those indexed."""

    indexed: int
    passages: int
    unchanged: int
    failed: tuple[FailedDocument, ...]


@dataclass(frozen=True, slots=True)
class CutDocument:
    """passages, texts and digests go together: texts[i] is what the engine and BM25 see of passages[i]."""

    document: Document
    passages: tuple[Passage, ...]
    texts: tuple[str, ...]
    digests: tuple[str, ...]


def fingerprint(document: Document, space: VectorSpace, chunking: ChunkingSettings) -> str:
    """32 hex digits (BLAKE2b) over the document and all else that its passages and vectors depend on."""
    content = [document.id, document.title, document.text, document.url, document.subject, document.metadata]
    rest = [CHUNKER_VERSION, chunking.max_tokens, chunking.overlap_tokens, space.model, space.revision, space.dim]
    canonical = json.dumps([content, rest], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def cut(document: Document, *, tokenizer: Tokenizer, chunking: ChunkingSettings) -> CutDocument:
    """Passages of a valid document and the texts to embed. Raises UnreadableDocument if it has none."""
    title = embedding_title(document.title, tokenizer=tokenizer, settings=chunking)
    passages = chunk(document.text, title=title, tokenizer=tokenizer, settings=chunking)
    if not passages:
        raise UnreadableDocument("neither its text nor its title has anything to search for")
    texts = tuple(passage.embedded_text(title) for passage in passages)
    return CutDocument(document, tuple(passages), texts, tuple(map(digest, texts)))


def chunking_of(recipe: Recipe, settings: ChunkingSettings) -> ChunkingSettings:
    """How an index's documents are cut: as it was made, or as the settings say where it leaves that to them."""
    asked = {"max_tokens": recipe.max_tokens, "overlap_tokens": recipe.overlap_tokens}
    return settings.model_copy(update={name: value for name, value in asked.items() if value is not None})


@dataclass(frozen=True, slots=True)
class IndexingTarget:
    """How documents are cut and embedded for the active index. index: its name; None for a new collection."""

    index: str | None
    model: ServedModel
    chunking: ChunkingSettings


class Indexer:
    """Indexes uploads into any store with any engine. Safe to call concurrently."""

    def __init__(
        self,
        *,
        models: Mapping[VectorSpace, ServedModel],
        chunking: ChunkingSettings,
        sparse: SparseEncoder,
        store: IndexingStore,
    ) -> None:
        """models: all that are loaded. The first one makes new collections."""
        self._new = IndexingTarget(None, next(iter(models.values())), chunking)
        self._models = models
        self._sparse = sparse
        self._store = store

    async def index(self, scope: Scope, documents: Sequence[Document]) -> IndexReport:
        """Write the documents that are new or changed. On return every search finds them. They are cut and embedded as
        the active index was made, and once more if another index becomes active meanwhile.

        A document that cannot be indexed is in `failed` with the reason and harms no other; of several with one id
        the last counts. Raises Overloaded only while nothing is written; after the first slice it waits for the
        embedder, until the caller's deadline cancels it. Raises what concerns all of them: Conflict (a model that is
        not loaded here), StoreUnavailable, EngineUnavailable; then, or when it is cancelled, some may have been
        written, each of them wholly, and the same call again does the rest.
        """
        wanted, failed = await asyncio.to_thread(_accepted, documents)
        passages: dict[str, int] = {}  # of each document that was written
        target = await self._target(scope)
        while True:
            try:
                broken = await self._index(scope, target, wanted, passages)
                break
            except Conflict:
                before, target = target, await self._target(scope)
                if target == before:
                    raise
        unchanged = len(wanted) - len(passages) - len(broken)
        return IndexReport(len(passages), sum(passages.values()), unchanged, (*failed, *broken))

    async def _target(self, scope: Scope) -> IndexingTarget:
        """Raises Conflict if the model of the active index is not loaded."""
        try:
            active = await self._store.active_index(scope)
        except NotFound:
            return self._new
        if (model := self._models.get(active.recipe.space)) is None:
            raise not_served(active.recipe.space)
        return IndexingTarget(active.scope.index, model, chunking_of(active.recipe, self._new.chunking))

    async def _index(
        self, scope: Scope, target: IndexingTarget, wanted: Mapping[str, Document], passages: dict[str, int]
    ) -> list[FailedDocument]:
        """Adds to `passages` what it has written. Those that could not be cut."""
        embedder, failed = target.model.embedder, []
        prints = await asyncio.to_thread(_fingerprints, wanted, embedder.space, target.chunking)
        stored = await self._store.fingerprints(scope, list(wanted))
        waiting = iter([document for id, document in wanted.items() if stored.get(id) != prints[id]])
        while True:
            batch, broken = await asyncio.to_thread(_next_slice, waiting, target)
            failed.extend(broken)
            if not batch:
                return failed
            replaced = [id for one in batch if (id := one.document.id) in stored]
            former = await self._store.indexed_documents(scope, replaced) if replaced else {}
            vectorised = await self._vectorised(batch, former, prints, embedder, patient=bool(passages))
            await self._store.write(scope, embedder.space, vectorised, made_for=target.index)
            passages.update({one.document.id: len(one.passages) for one in batch})

    async def _vectorised(
        self,
        batch: Sequence[CutDocument],
        former: Mapping[str, IndexedDocument],
        prints: Mapping[str, str],
        embedder: Embedder,
        *,
        patient: bool,
    ) -> list[IndexedDocument]:
        """former: the stored versions, whose vectors of the same texts are taken."""
        texts = [text for one in batch for text in one.texts]
        known = [vector for one in batch for vector in known_vectors(one.digests, former.get(one.document.id))]
        unknown = [text for text, vector in zip(texts, known, strict=True) if vector is None]
        embedded: list[Vector] = []
        for start in range(0, len(unknown), SLICE_PASSAGES):
            embedded.extend(await _embedded(embedder, unknown[start : start + SLICE_PASSAGES], patient=patient))
        sparse = await asyncio.to_thread(self._sparse.encode_passages, texts)
        vectors = iter(embedded)
        dense = (next(vectors) if vector is None else vector for vector in known)
        digests = (digest for one in batch for digest in one.digests)
        rest = zip(dense, sparse, digests, strict=True)
        return [
            IndexedDocument(
                one.document,
                prints[one.document.id],
                tuple(IndexedPassage(passage, *next(rest)) for passage in one.passages),
            )
            for one in batch
        ]


async def _embedded(embedder: Embedder, texts: Sequence[str], *, patient: bool) -> Vector:
    """Their vectors, (n, dim). If patient, it tries again for as long as the embedder is overloaded."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return (await embedder.embed(texts, Lane.BULK)).vectors
        except Overloaded:
            if not patient:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _fingerprints(wanted: Mapping[str, Document], space: VectorSpace, chunking: ChunkingSettings) -> dict[str, str]:
    return {id: fingerprint(document, space, chunking) for id, document in wanted.items()}


def _next_slice(waiting: Iterator[Document], target: IndexingTarget) -> tuple[list[CutDocument], list[FailedDocument]]:
    """Cut documents until a slice is full or none is left."""
    batch: list[CutDocument] = []
    failed: list[FailedDocument] = []
    passages = 0
    for document in waiting:
        try:
            batch.append(cut(document, tokenizer=target.model.tokenizer, chunking=target.chunking))
        except InvalidInput as error:
            failed.append(FailedDocument(document.id, str(error)))
            continue
        passages += len(batch[-1].passages)
        if passages >= SLICE_PASSAGES:
            break
    return batch, failed


def _accepted(documents: Sequence[Document]) -> tuple[dict[str, Document], list[FailedDocument]]:
    """The documents to index by id, and those which cannot be."""
    wanted: dict[str, Document] = {}
    failed: list[FailedDocument] = []
    for document in documents:
        try:
            validate(document)
        except InvalidInput as error:
            failed.append(FailedDocument(document.id, str(error)))
            continue
        if document.id in wanted:
            failed.append(FailedDocument(document.id, "a later document of this call has the same id and replaces it"))
        wanted[document.id] = storable(document)
    return wanted, failed
