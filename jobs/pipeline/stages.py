"""The stages of the indexing pipeline: plain classes around the engine, the chunker and the store that serve requests.

A document that fails becomes a row with an error and flows on. What is raised concerns every document: a store or an
engine that is gone, a collection of another model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

import pyarrow as pa
import ray

from jobs.pipeline.block_vectors import texts_to_embed, with_vectors
from jobs.pipeline.claims import Claim
from jobs.pipeline.cutting import Cutter, IndexingPlan, Share, own_fault
from jobs.pipeline.inputs import Input, read_input
from jobs.pipeline.ledger import DUPLICATE, Report, RunLedger, report_of
from jobs.pipeline.rows import PipelineRow, RowOutcome, failed_row, from_block, indexed_document, to_block
from jobs.runtime.patience import patiently
from jobs.runtime.slices import slices
from serve_app.deployments.store import connect_store
from serve_app.documents.readers.result import ReadFailure, ReadResult
from serve_app.documents.reading_process import ReadingProcess
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import InvalidInput
from serve_app.settings import Settings
from serve_app.types import Document, Vector
from serve_app.validation import storable, validate

CHARS_PER_TOKEN = 4  # in English
BLOCK_DOCUMENTS = 512  # the store is asked about, or given, so many at once
LEAST_TOKENS = 64  # of a document, in a block of more than BLOCK_DOCUMENTS
SLICE_PASSAGES = 1_024  # written


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

    def failed(self, document_id: str, error: str, source: str = "") -> PipelineRow:
        return failed_row(self.source.name, document_id, error, source=source)

    def share(self, document: Document) -> Share:
        """The next document to be cut. What it stands for of the input is about what a line of JSON would hold of it:
        metadata can be longer than the text."""
        share_bytes = min(self.rest_bytes, json_line_bytes(document))
        self.rest_bytes -= share_bytes
        return Share(document, self.source.name, share_bytes)

    def end(self) -> PipelineRow:
        return PipelineRow(
            RowOutcome.END, self.source.name, source_bytes=self.rest_bytes, source_documents=self.documents
        )


class ReadStage:
    """Inputs → rows: read, checked, compared with the store, cut, BM25 terms. A block out for every slice of what is
    read, so that a big file is never in memory as a whole, nor is the store asked about each of many small ones; rows
    of unchanged documents carry no text.

    Which documents are in a block follows from the inputs alone, and not from what is stored: Ray repeats the work of a
    node that died, and of a repeated task takes the blocks that it had not yet got of it, by their number."""

    def __init__(self, plan: IndexingPlan, ledger: RunLedger) -> None:
        assert plan.block_tokens
        self._block_chars = CHARS_PER_TOKEN * plan.block_tokens
        self._block_documents = max(BLOCK_DOCUMENTS, plan.block_tokens // LEAST_TOKENS)
        self._ledger = ledger
        self._cutter = Cutter(plan)
        self._reader = ReadingProcess()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        return self.blocks(map(Input.from_columns, batch.to_pylist()))

    def close(self) -> None:
        self._cutter.close()
        self._reader.close()

    def blocks(self, inputs: Iterable[Input]) -> Iterator[pa.Table]:
        for some in slices(self._read(inputs), self._block_documents, self._block_chars, lambda one: chars(one[1])):
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

    def _rows(self, items: Sequence[tuple[Reading, ReadResult | None]]) -> list[PipelineRow]:
        """One row per item; those that end an input come last, for they stand for what is left of its bytes."""
        rows: list[PipelineRow] = []
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
        shares: list[Share] = []
        for (reading, document), is_first in zip(read, self._claimed(read), strict=True):
            if is_first:
                shares.append(reading.share(document))
            else:
                rows.append(reading.failed(document.id, DUPLICATE))
        rows += self._cutter.rows(shares)
        return [*rows, *(reading.end() for reading, item in items if item is None)]

    def _claimed(self, documents: Sequence[tuple[Reading, Document]]) -> list[bool]:
        """Whether each is the one of its id that is kept in this run."""
        claims = [Claim(document.id, reading.source.name, reading.source.place) for reading, document in documents]
        return self._ledger.claim(claims) if claims else []


class EmbedStage:
    """Fills in `dense`, by one call of the engine for all texts of a batch, and drops `texts`. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)

    def __call__(self, batch: pa.Table) -> pa.Table:
        try:
            return self._embedded(batch)
        except Exception as error:
            own_fault(error)  # of one of them: find it
            return to_block([self._embedded_alone(row) for row in from_block(batch)])

    def vectors(self, texts: Sequence[str]) -> Vector:
        """(n, dim)"""
        return self._engine.embed(texts).vectors

    def _embedded(self, block: pa.Table) -> pa.Table:
        return with_vectors(block, self.vectors(texts_to_embed(block)), self._engine.dim)

    def _embedded_alone(self, row: PipelineRow) -> PipelineRow:
        try:
            return from_block(self._embedded(to_block([row])))[0]
        except Exception as error:
            return failed_row(row.input, row.document_id, own_fault(error), row.source_bytes)


class StoreStage:
    """Writes whole documents, reports to the ledger, and hands on nothing. A call may be repeated: point ids follow
    from tenant, collection, document and passage (types.passage_point_id), so that it writes the same again.

    No Datasink: its tasks come seconds apart, Ray ends idle processes sooner, and to start one costs two seconds of
    CPU."""

    def __init__(self, plan: IndexingPlan, ledger: RunLedger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._store = connect_store(plan.settings)
        self._loop = asyncio.Runner()  # one loop for the life of the store's client

    def __call__(self, batch: pa.Table) -> pa.Table:
        report = self.write(batch)
        task = ray.get_runtime_context().get_task_id()
        assert task is not None  # Ray Data calls a stage in a task
        self._ledger.written(task, report)
        return to_block([])

    def close(self) -> None:
        self._loop.run(self._store.close())
        self._loop.close()

    def write(self, block: pa.Table) -> Report:
        """Without the ledger."""
        return self._loop.run(self._write(from_block(block)))

    async def _write(self, rows: Iterable[PipelineRow]) -> Report:
        report = Report()
        for some in slices(rows, BLOCK_DOCUMENTS, SLICE_PASSAGES, lambda row: len(row.passages)):
            report += report_of(await self._written(some))
        return report

    async def _written(self, rows: Sequence[PipelineRow]) -> list[PipelineRow]:
        """The rows, those that the store refused as failed; of a dry run, as they are."""
        plan = self._plan
        if plan.dry_run:
            return [*rows]
        good = [row for row in rows if row.outcome is RowOutcome.INDEX]
        rest = [row for row in rows if row.outcome is not RowOutcome.INDEX]
        try:
            documents = [indexed_document(row) for row in good]
            if documents:
                await patiently(lambda: self._store.write(plan.scope, plan.space, documents, made_for=plan.made_for))
        except Exception as error:
            reason = own_fault(error)
            if len(good) == 1:
                row = good[0]
                return [*rest, failed_row(row.input, row.document_id, reason, row.source_bytes)]
            alone = [await self._written([row]) for row in good]
            return [*rest, *(row for one in alone for row in one)]
        return [*rest, *good]


def json_line_bytes(document: Document) -> int:
    """Of its fields that are not empty, with their names, as JSON."""
    written = {each.name: value for each in fields(document) if (value := getattr(document, each.name))}
    return len(repr(written).encode())


def chars(item: ReadResult | None) -> int:
    """Of its text and of its metadata, which can be longer."""
    if not isinstance(item, Document):
        return 0
    return len(item.text) + (item.metadata_bytes if item.metadata else 0)
