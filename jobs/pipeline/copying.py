"""Copies the documents of one index of a collection into another index, cut and embedded for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.pipeline.cutting import NO_COPIES, Cutter, IndexingPlan, Share
from jobs.pipeline.inputs import Input
from jobs.pipeline.ledger import Ledger, Report, RunLedger
from jobs.pipeline.rows import PipelineRow, RowOutcome, to_block
from jobs.pipeline.stages import EmbedStage, StoreStage
from jobs.runtime.patience import patiently
from jobs.runtime.slices import slices
from serve_app.documents.indexing import CutDocument, cut, fingerprint
from serve_app.errors import NotFound
from serve_app.types import Document, IndexedDocument, SparseVector, Vector

BLOCK_DOCUMENTS = 64  # that go through the stages together
# Of a text's vectors in two precisions: an index has those of the service, too, and of runs on other CPUs; int8 passes
# its conversion with 0.95.
LEAST_COSINE = 0.9


def copy_inputs(versions: Mapping[str, str | None], block_documents: int = BLOCK_DOCUMENTS) -> list[Input]:
    """Of CopyStage, for the documents of these ids and fingerprints; one weighs as much as it has documents."""
    parts = slices(versions.items(), block_documents)
    return [Input(Path(f"stored-{n}"), Path(), len(part), versions=tuple(part)) for n, part in enumerate(parts)]


class CopyStage:
    """Inputs → rows as ReadStage gives them, of the documents of `plan.source` that the inputs name. It reports to the
    ledger which of them it found in another version than the input says, or not at all.

    A block for each input, which ends with the input's end. So a call that is repeated gives as many, each with the
    documents of the same ids as far as these are there by then, and whichever of the two Ray takes of a block, it is
    whole; what either of them found moved is noted."""

    def __init__(self, plan: IndexingPlan, ledger: RunLedger) -> None:
        assert plan.source is not None
        self._plan, self._source = plan, plan.source
        self._ledger = ledger
        self.cutter = Cutter(plan)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for source in map(Input.from_columns, batch.to_pylist()):
            found, documents = self._stored([id for id, _ in source.versions])
            versions = {id: one.fingerprint for id, one in found.items()}
            if moved := [id for id, version in source.versions if version is None or versions.get(id) != version]:
                self._ledger.moved(moved)
            shares = [Share(document, source.name, source_bytes=1) for document in documents]
            rows = self.cutter.rows(shares, found if self._plan.reuses else NO_COPIES)
            gone = source.size_bytes - len(rows)
            yield to_block(
                [*rows, PipelineRow(RowOutcome.END, source.name, source_bytes=gone, source_documents=len(rows))]
            )

    def _stored(self, ids: Sequence[str]) -> tuple[dict[str, IndexedDocument], list[Document]]:
        """Those that are completely stored, and all with their texts: also one whose last write was cut off."""
        store, source = self.cutter.store, self._source
        found = self.cutter.ask(patiently(partial(store.indexed_documents, source, ids)))
        documents: list[Document] = []
        for id in ids:
            if id in found:
                documents.append(found[id].document)
                continue
            with suppress(NotFound):
                documents.append(self.cutter.ask(patiently(partial(store.document, source, id))))
        return found, documents


class Copier:
    """Runs as an actor: all stages in one process and ready, for what is so little that to start the pipeline would
    take longer; and for looking at what was made."""

    def __init__(self, plan: IndexingPlan) -> None:
        self._plan = plan
        self._ledger = Ledger()
        self._copy = CopyStage(plan, self._ledger)
        self._embed, self._store = EmbedStage(plan.settings), StoreStage(plan, self._ledger)

    def copy(self, versions: Mapping[str, str | None]) -> Report:
        block = pa.Table.from_pylist([each.to_columns() for each in copy_inputs(versions)], schema=Input.SCHEMA)
        report = sum((self._store.write(self._embed(rows)) for rows in self._copy(block)), Report())
        return report + self._ledger.take()  # what has moved

    def faults(self, ids: Sequence[str]) -> list[str]:
        """What is wrong with these documents in the new index; what is no longer there has no fault."""
        cutter, plan = self._copy.cutter, self._plan
        found = cutter.ask(patiently(partial(cutter.store.indexed_documents, plan.scope, ids)))
        faults = []
        for id, stored in found.items():
            pieces = cut(stored.document, tokenizer=cutter.tokenizer, chunking=plan.settings.chunking)
            vectors, terms = self._embed.vectors(pieces.texts), cutter.sparse.encode_passages(pieces.texts)
            expected = fingerprint(stored.document, plan.space, plan.settings.chunking)
            fault = fault_of(stored, pieces, vectors, terms)
            if stored.fingerprint != expected:
                fault = "its fingerprint is not of its text"
            if fault:
                faults.append(f"{id!r}: {fault}")
        return faults


def fault_of(
    stored: IndexedDocument, pieces: CutDocument, vectors: Vector, terms: Sequence[SparseVector]
) -> str | None:
    """What differs between a stored document and its text cut and embedded anew; None if nothing does. Pure.

    vectors: (n, dim) of unit length, and terms: of the pieces, in order."""
    passages = [(item.passage.text, item.passage.headings, item.digest) for item in stored.passages]
    expected = [(p.text, p.headings, d) for p, d in zip(pieces.passages, pieces.digests, strict=True)]
    if passages != expected:
        return f"it has {len(passages)} passages, and not these {len(expected)}, or with other texts"
    for item, vector, sparse in zip(stored.passages, vectors, terms, strict=True):
        if (cosine := float(item.dense @ vector)) < LEAST_COSINE:
            return f"the vector of passage {item.passage.number} has cosine {cosine:.3f} with that of its text"
        if weights(item.sparse) != weights(sparse):
            return f"passage {item.passage.number} has other BM25 terms than its text"
    return None


def weights(terms: SparseVector) -> dict[int, float]:
    values = np.asarray(terms.values, np.float32).tolist()
    return dict(zip(np.asarray(terms.indices).tolist(), values, strict=True))
