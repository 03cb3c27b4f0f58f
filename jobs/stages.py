"""The stages of the indexing pipeline: plain classes around the engine, the chunker and the store that serve requests.

A document that fails becomes a row with an error and flows on. What is raised concerns every document: a store or an
engine that is gone, a collection of another model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from jobs.inputs import Input, read_input
from jobs.ledger import DUPLICATE, Report, report_of
from jobs.patience import patiently
from jobs.rows import Outcome, Row, encode_document, failed_row, from_block, indexed_document, to_block
from jobs.slices import slices
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import cut, fingerprint
from serve_app.documents.readers.result import ReadFailure, ReadResult
from serve_app.documents.reading_process import ReadingProcess
from serve_app.documents.reuse import known_vectors
from serve_app.documents.validation import storable, validate
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import InvalidInput, PlatformError
from serve_app.settings import Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, IndexedDocument, Scope, Vector, VectorSpace

PASSES_PER_BLOCK = 2  # of the engine's largest
CHARS_PER_TOKEN = 4  # in English
BLOCK_DOCUMENTS = 512  # the store is asked about, or given, so many at once
SLICE_PASSAGES = 1_024  # written
LEDGER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What every stage knows of the run. dry_run: all is read, compared and cut, nothing embedded or written.
    block_tokens: about so many go through the stages together, but a document at least; None for what keeps the engine
    busy for a second or more."""

    scope: Scope
    space: VectorSpace
    settings: Settings  # without secrets
    dry_run: bool = False
    block_tokens: int | None = None

    @property
    def tokens_per_block(self) -> int:
        return self.block_tokens or PASSES_PER_BLOCK * self.settings.embedding.max_batch_tokens


@dataclass(slots=True)
class Reading:
    """How far an input has been read. rest_bytes: those that no row stands for yet. documents: results so far."""

    source: Input
    rest_bytes: int
    documents: int = 0
    seen: set[str] = field(default_factory=set)  # ids

    def accepted(self, document: Document) -> Document:
        """As any store takes it. Raises InvalidInput."""
        validate(document)
        if document.id in self.seen:
            raise InvalidInput(DUPLICATE)
        self.seen.add(document.id)
        return storable(document)

    def failed(self, document_id: str, error: str, source: str = "") -> Row:
        return failed_row(self.source.name, document_id, error, source=source)

    def take(self, size_bytes: int) -> int:
        """As many of the rest."""
        taken = min(self.rest_bytes, size_bytes)
        self.rest_bytes -= taken
        return taken

    def end(self) -> Row:
        return Row(Outcome.END, self.source.name, source_bytes=self.rest_bytes, source_documents=self.documents)


class ReadStage:
    """Inputs → rows: read, checked, compared with the store, cut, BM25 terms. A block out for every slice of what is
    read, so that a big file is never in memory as a whole, nor is the store asked about each of many small ones; rows
    of unchanged documents carry no text.

    Which documents are in a block follows from the inputs alone, and not from what is stored: Ray repeats the work of a
    node that died, and of a repeated task takes the blocks that it had not yet got of it, by their number."""

    def __init__(self, plan: Plan, ledger: Any) -> None:
        self._plan = plan
        self._ledger = ledger
        settings = plan.settings
        self._tokenizer = load_tokenizer(resolve_model(settings.embedding, settings.data_dir))
        self._sparse = Bm25SparseEncoder()
        self._store = connect_store(settings)
        self._reader = ReadingProcess()
        self._loop = asyncio.Runner()  # one loop for the life of the store's client

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        inputs = map(Input.from_columns, batch.to_pylist())
        block_chars = CHARS_PER_TOKEN * self._plan.tokens_per_block
        for some in slices(self._read(inputs), BLOCK_DOCUMENTS, block_chars, lambda one: chars(one[1])):
            yield to_block(self._rows(some))

    def _read(self, inputs: Iterable[Input]) -> Iterator[tuple[Reading, ReadResult | None]]:
        """What is asked for of one input after the other, and None at the end of each."""
        for source in inputs:
            reading = Reading(source, source.size_bytes)
            for result in read_input(source, self._reader):
                if isinstance(result, ReadFailure) or not source.only or result.id in source.only:
                    reading.documents += 1
                    yield reading, result
            yield reading, None

    def _rows(self, items: Sequence[tuple[Reading, ReadResult | None]]) -> list[Row]:
        """One row per item; those that end an input come last, for they stand for what is left of its bytes."""
        rows: list[Row] = []
        read: list[tuple[Reading, Document]] = []
        for reading, item in items:
            if isinstance(item, ReadFailure):
                id = item.document_id or reading.source.only_document
                rows.append(reading.failed(id, item.error, item.source))
            elif item is not None:
                try:
                    read.append((reading, reading.accepted(item)))
                except Exception as error:
                    rows.append(reading.failed(item.id, own_fault(error)))
        documents: dict[str, tuple[Reading, Document]] = {}
        for (reading, document), is_first in zip(read, self._claimed(read), strict=True):
            if is_first:
                documents[document.id] = reading, document
            else:
                rows.append(reading.failed(document.id, DUPLICATE))
        if documents:
            rows += self._compared(documents)
        return [*rows, *(reading.end() for reading, item in items if item is None)]

    def _claimed(self, documents: Sequence[tuple[Reading, Document]]) -> list[bool]:
        """Whether each is the first of its id in this run."""
        ids = [(reading.source.name, document.id) for reading, document in documents]
        return ray.get(self._ledger.claim.remote(ids), timeout=LEDGER_TIMEOUT_S) if ids else []

    def _compared(self, documents: Mapping[str, tuple[Reading, Document]]) -> Iterator[Row]:
        """Documents, by id, that are not stored as they are, to be embedded; the others as unchanged."""
        plan = self._plan
        prints = {id: fingerprint(each, plan.space, plan.settings.chunking) for id, (_, each) in documents.items()}
        stored = self._loop.run(patiently(lambda: self._store.fingerprints(plan.scope, list(documents))))
        changed = [id for id in documents if stored.get(id) not in (None, prints[id])]
        former = (
            self._loop.run(patiently(lambda: self._store.indexed_documents(plan.scope, changed))) if changed else {}
        )
        for id, (reading, document) in documents.items():
            share_bytes = reading.take(chars(document))
            if stored.get(id) == prints[id]:
                yield Row(Outcome.UNCHANGED, reading.source.name, id, share_bytes)
                continue
            row = self._to_embed(reading.source, document, prints[id], former.get(id))
            yield replace(row, replaces=id in stored, source_bytes=share_bytes)

    def _to_embed(self, source: Input, document: Document, print_: str, former: IndexedDocument | None) -> Row:
        try:
            pieces = cut(document, tokenizer=self._tokenizer, chunking=self._plan.settings.chunking)
            known = known_vectors(pieces.digests, former)
            unknown = tuple(
                None if vector is not None else text for text, vector in zip(pieces.texts, known, strict=True)
            )
            return Row(
                Outcome.INDEX,
                source.name,
                document.id,
                fingerprint=print_,
                document=encode_document(document),
                passages=pieces.passages,
                texts=unknown,
                digests=pieces.digests,
                embedded=len(unknown) - unknown.count(None),
                dense=to_bytes(known, self._plan.space.dim),
                sparse=() if self._plan.dry_run else tuple(self._sparse.encode_passages(pieces.texts)),
            )
        except Exception as error:
            return failed_row(source.name, document.id, own_fault(error))


class EmbedStage:
    """Fills in `dense`, by one call of the engine for all texts of a batch, and drops `texts`."""

    def __init__(self, settings: Settings) -> None:
        self._engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = from_block(batch)
        try:
            return to_block(self._embedded(rows))
        except Exception as error:
            own_fault(error)  # of one of them: find it
            return to_block([self._embedded_alone(row) for row in rows])

    def _embedded(self, rows: Sequence[Row]) -> list[Row]:
        texts = [text for row in rows for text in row.texts if text is not None]
        vectors = iter(self._engine.embed(texts).vectors if texts else ())
        return [self._filled_in(row, vectors) for row in rows]

    def _filled_in(self, row: Row, vectors: Iterator[Vector]) -> Row:
        """Takes as many of the vectors as the row has texts."""
        dim = self._engine.space.dim
        dense = np.frombuffer(row.dense, "<f4").reshape(-1, dim)
        known = [dense[place] if text is None else next(vectors) for place, text in enumerate(row.texts)]
        return replace(row, texts=(), dense=to_bytes(known, dim))

    def _embedded_alone(self, row: Row) -> Row:
        try:
            return self._embedded([row])[0]
        except Exception as error:
            return failed_row(row.input, row.document_id, own_fault(error), row.source_bytes)


class StoreStage:
    """Writes whole documents, reports to the ledger, and hands on nothing. A call may be repeated: point ids follow
    from tenant, collection, document and passage (types.passage_point_id), so that it writes the same again.

    No Datasink: its tasks come seconds apart, Ray ends idle processes sooner, and to start one costs two seconds of
    CPU."""

    def __init__(self, plan: Plan, ledger: Any) -> None:
        self._plan = plan
        self._ledger = ledger
        self._store = connect_store(plan.settings)
        self._loop = asyncio.Runner()  # one loop for the life of the store's client

    def __call__(self, batch: pa.Table) -> pa.Table:
        report = self._loop.run(self._write(from_block(batch)))
        task = ray.get_runtime_context().get_task_id()
        ray.get(self._ledger.written.remote(task, report), timeout=LEDGER_TIMEOUT_S)
        return to_block([])

    async def _write(self, rows: Iterable[Row]) -> Report:
        report = Report()
        for some in slices(rows, BLOCK_DOCUMENTS, SLICE_PASSAGES, lambda row: len(row.passages)):
            report += report_of(await self._written(some))
        return report

    async def _written(self, rows: Sequence[Row]) -> list[Row]:
        """The rows, those that the store refused as failed; of a dry run, as they are."""
        if self._plan.dry_run:
            return [*rows]
        good = [row for row in rows if row.outcome is Outcome.INDEX]
        rest = [row for row in rows if row.outcome is not Outcome.INDEX]
        try:
            documents = [indexed_document(row) for row in good]
            if documents:
                await patiently(lambda: self._store.write(self._plan.scope, self._plan.space, documents))
        except Exception as error:
            reason = own_fault(error)
            if len(good) == 1:
                row = good[0]
                return [*rest, failed_row(row.input, row.document_id, reason, row.source_bytes)]
            alone = [await self._written([row]) for row in good]
            return [*rest, *(row for one in alone for row in one)]
        return [*rest, *good]


def to_bytes(vectors: Sequence[Vector | None], dim: int) -> bytes:
    """Row after row, zero where there is none; empty if there is none at all."""
    if all(vector is None for vector in vectors):
        return b""
    zero = np.zeros(dim, "<f4")
    return b"".join((zero if vector is None else vector.astype("<f4")).tobytes() for vector in vectors)


def chars(item: ReadResult | None) -> int:
    return len(item.text) if isinstance(item, Document) else 0


def own_fault(error: Exception) -> str:
    """What is wrong with this document. Raises `error` itself if it is not the document's: then it is everyone's."""
    if isinstance(error, InvalidInput):
        return str(error)
    if isinstance(error, PlatformError | MemoryError):
        raise error
    return f"{type(error).__name__}: {error}"
