"""The stages of the indexing pipeline: plain classes around the engine, the chunker and the store that serve requests.

A document that fails becomes a row with an error and flows on. What is raised concerns every document: a store or an
engine that is gone, a collection of another model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasink

from jobs.inputs import Input, read_input
from jobs.ledger import Report, report_of
from jobs.rows import Outcome, Row, encode_document, failed_row, from_table, indexed_document, to_table
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import cut, fingerprint
from serve_app.documents.readers.result import ReadFailure, ReadResult
from serve_app.documents.reading_process import ReadingProcess
from serve_app.documents.validation import storable, validate
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import InvalidInput, PlatformError, StoreUnavailable
from serve_app.ports import VectorStore
from serve_app.settings import Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, Scope, VectorSpace

T = TypeVar("T")

SLICE_DOCUMENTS = 64  # the store is asked about, or given, so many at once
SLICE_CHARS = 256 * 1024  # read, before they are cut
SLICE_PASSAGES = 1_024  # written
STORE_PATIENCE_S = 120.0  # a store that restarts is waited for; each call has its own, shorter timeout
STORE_PAUSE_S = 1.0
LEDGER_TIMEOUT_S = 60.0
DUPLICATE = "an earlier document has the same id: give each its own, for only the first is kept"


@dataclass(frozen=True, slots=True)
class Plan:
    """What every stage knows of the run."""

    scope: Scope
    space: VectorSpace
    settings: Settings  # without secrets


class ReadStage:
    """Inputs → rows: read, checked, compared with the store, cut, BM25 terms. A table out for every slice of an input,
    so that a big file is never in memory as a whole; rows of unchanged documents carry no text."""

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
        for columns in batch.to_pylist():
            source = Input.from_columns(columns)
            seen: set[str] = set()
            documents, rest_bytes = 0, source.size_bytes
            for items in slices(read_input(source, self._reader), SLICE_DOCUMENTS, SLICE_CHARS, chars):
                rows = self._rows(source, items, seen)
                documents += len(rows)
                share_bytes = min(rest_bytes, sum(map(chars, items)))
                rest_bytes -= share_bytes
                yield to_table([replace(rows[0], source_bytes=share_bytes), *rows[1:]])
            yield to_table([Row(Outcome.END, source.name, source_bytes=rest_bytes, source_documents=documents)])

    def _rows(self, source: Input, items: Sequence[ReadResult], seen: set[str]) -> list[Row]:
        """One row per item."""
        rows: list[Row] = []
        documents: dict[str, Document] = {}
        for item in items:
            if isinstance(item, ReadFailure):
                rows.append(failed_row(item.source, "", item.error))
                continue
            try:
                documents[item.id] = accepted(item, seen)
            except Exception as error:
                rows.append(failed_row(source.name, item.id, own_fault(error)))
        for id in self._taken(source, list(documents)):
            del documents[id]
            rows.append(failed_row(source.name, id, DUPLICATE))
        plan = self._plan
        prints = {id: fingerprint(each, plan.space, plan.settings.chunking) for id, each in documents.items()}
        stored = self._loop.run(patiently(lambda: self._store.fingerprints(plan.scope, list(documents))))
        for id, document in documents.items():
            if stored.get(id) == prints[id]:
                rows.append(Row(Outcome.UNCHANGED, source.name, id))
            else:
                rows.append(self._to_embed(source, document, prints[id]))
        return rows

    def _taken(self, source: Input, ids: list[str]) -> list[str]:
        """Those of the ids that another input of this run had first."""
        taken: list[str] = ray.get(self._ledger.claim.remote(source.name, ids), timeout=LEDGER_TIMEOUT_S) if ids else []
        return taken

    def _to_embed(self, source: Input, document: Document, print_: str) -> Row:
        try:
            pieces = cut(document, tokenizer=self._tokenizer, chunking=self._plan.settings.chunking)
            return Row(
                Outcome.INDEX,
                source.name,
                document.id,
                fingerprint=print_,
                document=encode_document(document),
                passages=pieces.passages,
                texts=pieces.texts,
                sparse=tuple(self._sparse.encode_passages(pieces.texts)),
            )
        except Exception as error:
            return failed_row(source.name, document.id, own_fault(error))


class EmbedStage:
    """Adds `dense`, by one call of the engine for all passages of a batch, and drops `texts`."""

    def __init__(self, settings: Settings) -> None:
        self._engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = from_table(batch)
        try:
            return to_table(self._embedded(rows))
        except Exception as error:
            own_fault(error)  # of one of them: find it
            return to_table([self._embedded_alone(row) for row in rows])

    def _embedded(self, rows: Sequence[Row]) -> list[Row]:
        texts = [text for row in rows for text in row.texts]
        vectors = self._engine.embed(texts).vectors.astype("<f4") if texts else np.empty((0, 1), "<f4")
        ends = np.cumsum([len(row.texts) for row in rows])
        parts = zip(rows, np.split(vectors, ends[:-1]), strict=True)
        return [replace(row, texts=(), dense=part.tobytes()) for row, part in parts]

    def _embedded_alone(self, row: Row) -> Row:
        try:
            return self._embedded([row])[0]
        except Exception as error:
            return failed_row(row.source, row.document_id, own_fault(error), row.source_bytes)


class StoreDatasink(Datasink[None]):
    """Writes whole documents and reports to the ledger. A write task may be repeated: point ids follow from tenant,
    collection, document and passage (types.passage_point_id), so that it writes the same again."""

    def __init__(self, plan: Plan, ledger: Any) -> None:
        self._plan = plan
        self._ledger = ledger

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        report = asyncio.run(self._write(row for block in blocks for row in from_table(block)))
        ray.get(self._ledger.written.remote(ctx.task_idx, report), timeout=LEDGER_TIMEOUT_S)

    async def _write(self, rows: Iterator[Row]) -> Report:
        store = connect_store(self._plan.settings)
        report = Report()
        try:
            for some in slices(rows, SLICE_DOCUMENTS, SLICE_PASSAGES, lambda row: len(row.passages)):
                report += report_of(await self._written(store, some))
        finally:
            await store.close()
        return report

    async def _written(self, store: VectorStore, rows: Sequence[Row]) -> list[Row]:
        """The rows, those that the store refused as failed."""
        good = [row for row in rows if row.outcome is Outcome.INDEX]
        rest = [row for row in rows if row.outcome is not Outcome.INDEX]
        try:
            documents = [indexed_document(row) for row in good]
            if documents:
                await patiently(lambda: store.write(self._plan.scope, self._plan.space, documents))
        except Exception as error:
            reason = own_fault(error)
            if len(good) == 1:
                row = good[0]
                return [*rest, failed_row(row.source, row.document_id, reason, row.source_bytes)]
            alone = [await self._written(store, [row]) for row in good]
            return [*rest, *(row for one in alone for row in one)]
        return [*rest, *good]


def chars(item: ReadResult) -> int:
    return len(item.text) if isinstance(item, Document) else 0


def accepted(document: Document, seen: set[str]) -> Document:
    """The document as any store takes it. seen: ids of its input so far. Raises InvalidInput."""
    validate(document)
    if document.id in seen:
        raise InvalidInput(DUPLICATE)
    seen.add(document.id)
    return storable(document)


def own_fault(error: Exception) -> str:
    """What is wrong with this document. Raises `error` itself if it is not the document's: then it is everyone's."""
    if isinstance(error, InvalidInput):
        return str(error)
    if isinstance(error, PlatformError | MemoryError):
        raise error
    return f"{type(error).__name__}: {error}"


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of an idempotent call to the store, which is repeated while the store is away.
    Raises StoreUnavailable after STORE_PATIENCE_S."""
    deadline_s = asyncio.get_running_loop().time() + STORE_PATIENCE_S
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(STORE_PAUSE_S)


def slices(items: Iterable[T], max_items: int, max_weight: int, weigh: Callable[[T], int]) -> Iterator[list[T]]:
    """Runs of items, in order, each up to the limits; one item that is over the weight goes alone."""
    some: list[T] = []
    weight = 0
    for item in items:
        if some and (len(some) >= max_items or weight + weigh(item) > max_weight):
            yield some
            some, weight = [], 0
        some.append(item)
        weight += weigh(item)
    if some:
        yield some
