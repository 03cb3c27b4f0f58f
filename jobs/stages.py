"""The stages of the indexing pipeline: plain classes around the engine, the chunker and the store that serve requests.

A document that fails becomes a row with an error and flows on. What is raised concerns every document: a store or an
engine that is gone, a collection of another model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasink

from jobs.cutting import Cutter, Plan, own_fault, to_bytes
from jobs.inputs import Input, read_input
from jobs.ledger import DUPLICATE, Report, report_of
from jobs.patience import patiently
from jobs.rows import Outcome, Row, failed_row, from_table, indexed_document, to_table
from jobs.slices import slices
from serve_app.deployments.store import connect_store
from serve_app.documents.readers.result import ReadFailure, ReadResult
from serve_app.documents.reading_process import ReadingProcess
from serve_app.documents.validation import storable, validate
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import InvalidInput
from serve_app.ports import VectorStore
from serve_app.settings import Settings
from serve_app.types import Document, Vector

SLICE_DOCUMENTS = 64  # the store is asked about, or given, so many at once
SLICE_CHARS = 256 * 1024  # read, before they are cut
SLICE_PASSAGES = 1_024  # written
LEDGER_TIMEOUT_S = 60.0


class ReadStage:
    """Inputs → rows: read, checked, compared with the store, cut, BM25 terms. A table out for every slice of an input,
    so that a big file is never in memory as a whole; rows of unchanged documents carry no text."""

    def __init__(self, plan: Plan, ledger: Any) -> None:
        self._plan = plan
        self._ledger = ledger
        self._cutter = Cutter(plan)
        self._reader = ReadingProcess()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for columns in batch.to_pylist():
            source = Input.from_columns(columns)
            seen: set[str] = set()
            documents, rest_bytes = 0, source.size_bytes
            for items in slices(read_input(source, self._reader), SLICE_DOCUMENTS, SLICE_CHARS, chars):
                if not (rows := self._rows(source, items, seen)):
                    continue
                documents += len(rows)
                share_bytes = min(rest_bytes, sum(map(chars, items)))
                rest_bytes -= share_bytes
                yield to_table([replace(rows[0], source_bytes=share_bytes), *rows[1:]])
            yield to_table([Row(Outcome.END, source.name, source_bytes=rest_bytes, source_documents=documents)])

    def _rows(self, source: Input, items: Sequence[ReadResult], seen: set[str]) -> list[Row]:
        """One row per item; none for one that is not asked for."""
        rows: list[Row] = []
        documents: dict[str, Document] = {}
        for item in items:
            if isinstance(item, ReadFailure):
                rows.append(
                    failed_row(source.name, item.document_id or source.only_document, item.error, source=item.source)
                )
                continue
            if source.only and item.id not in source.only:
                continue
            try:
                documents[item.id] = accepted(item, seen)
            except Exception as error:
                rows.append(failed_row(source.name, item.id, own_fault(error)))
        for id in self._taken(source, list(documents)):
            del documents[id]
            rows.append(failed_row(source.name, id, DUPLICATE))
        return [*rows, *self._cutter.rows(source.name, documents)]

    def _taken(self, source: Input, ids: list[str]) -> list[str]:
        """Those of the ids that another input of this run had first."""
        taken: list[str] = ray.get(self._ledger.claim.remote(source.name, ids), timeout=LEDGER_TIMEOUT_S) if ids else []
        return taken


class EmbedStage:
    """Fills in `dense`, by one call of the engine for all texts of a batch, and drops `texts`."""

    def __init__(self, settings: Settings) -> None:
        self._engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = from_table(batch)
        try:
            return to_table(self._embedded(rows))
        except Exception as error:
            own_fault(error)  # of one of them: find it
            return to_table([self._embedded_alone(row) for row in rows])

    def vectors(self, texts: Sequence[str]) -> Vector:
        """(n, dim)"""
        return self._engine.embed(texts).vectors

    def _embedded(self, rows: Sequence[Row]) -> list[Row]:
        texts = [text for row in rows for text in row.texts if text is not None]
        vectors = iter(self.vectors(texts) if texts else ())
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


class StoreDatasink(Datasink[None]):
    """Writes whole documents and reports to the ledger. A write task may be repeated: point ids follow from tenant,
    collection, document and passage (types.passage_point_id), so that it writes the same again."""

    def __init__(self, plan: Plan, ledger: Any) -> None:
        self._plan = plan
        self._ledger = ledger

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        report = self.write_all(blocks)
        ray.get(self._ledger.written.remote(ctx.task_idx, report), timeout=LEDGER_TIMEOUT_S)

    def write_all(self, blocks: Iterable[pa.Table]) -> Report:
        return asyncio.run(self._write(row for block in blocks for row in from_table(block)))

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
        """The rows, those that the store refused as failed; of a dry run, as they are."""
        plan = self._plan
        if plan.dry_run:
            return [*rows]
        good = [row for row in rows if row.outcome is Outcome.INDEX]
        rest = [row for row in rows if row.outcome is not Outcome.INDEX]
        try:
            documents = [indexed_document(row) for row in good]
            if documents:
                await patiently(lambda: store.write(plan.scope, plan.space, documents, made_for=plan.made_for))
        except Exception as error:
            reason = own_fault(error)
            if len(good) == 1:
                row = good[0]
                return [*rest, failed_row(row.input, row.document_id, reason, row.source_bytes)]
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
