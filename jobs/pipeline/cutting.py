"""Documents → rows to embed, for whatever reads them: compared with what the store has, cut, BM25 terms."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from jobs.pipeline.rows import PipelineRow, RowOutcome, encode_document, failed_row
from jobs.runtime.patience import patiently
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import chunking_of, cut, fingerprint
from serve_app.documents.reuse import known_vectors
from serve_app.embedding.models import resolve_model, settings_of_space
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import InvalidInput, PlatformError
from serve_app.settings import Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, IndexedDocument, Recipe, Scope, Vector, VectorSpace

T = TypeVar("T")
NO_COPIES: Mapping[str, IndexedDocument] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class IndexingPlan:
    """What every stage knows of the run. settings: without secrets, with the model and the chunking of this run.
    dry_run: all is read, compared and cut, nothing embedded or written. block_tokens: about so many go through the
    stages together, but a document at least; None for what keeps the embedders busy (see ActorPools). made_for: see
    IndexingStore.write.

    source: the index whose documents are read, where no files are. reuses: its vectors of the same texts are taken.
    """

    scope: Scope
    space: VectorSpace
    settings: Settings
    dry_run: bool = False
    block_tokens: int | None = None
    made_for: str | None = None
    source: Scope | None = None
    reuses: bool = False


def settings_of(recipe: Recipe, settings: Settings) -> Settings:
    """With the model, precision and chunking that the index was made with. Raises Conflict if its model is none of the
    settings', and as `resolve_model`."""
    embedding = settings_of_space(settings.embedding, settings.data_dir, recipe.space)
    if recipe.precision:
        embedding = embedding.model_copy(update={"precision": recipe.precision})
    chunking = chunking_of(recipe, settings.chunking)
    return settings.model_copy(update={"embedding": embedding, "chunking": chunking})


@dataclass(frozen=True, slots=True)
class Share:
    """A document, and the part of its input that it stands for. input: its name."""

    document: Document
    input: str
    source_bytes: int


class Cutter:
    def __init__(self, plan: IndexingPlan) -> None:
        self._plan = plan
        settings = plan.settings
        self.tokenizer = load_tokenizer(resolve_model(settings.embedding, settings.data_dir))
        self.sparse = Bm25SparseEncoder()
        self.store = connect_store(settings)
        self._loop = asyncio.Runner()  # one loop for the life of the store's client

    def ask(self, answer: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(answer)

    def close(self) -> None:
        self.ask(self.store.close())
        self._loop.close()

    def rows(self, shares: Sequence[Share], copies: Mapping[str, IndexedDocument] = NO_COPIES) -> list[PipelineRow]:
        """One for each, in order; ids are unique. Of a document that is not stored as it is, to be embedded; the others
        are unchanged. copies: other stored versions, by id, with vectors of the same model."""
        plan = self._plan
        documents = {share.document.id: share.document for share in shares}
        if not documents:
            return []
        prints = {id: fingerprint(each, plan.space, plan.settings.chunking) for id, each in documents.items()}
        stored = self.ask(patiently(lambda: self.store.fingerprints(plan.scope, list(documents))))
        changed = [id for id in documents if stored.get(id) not in (None, prints[id])]
        former = self.ask(patiently(lambda: self.store.indexed_documents(plan.scope, changed))) if changed else {}
        rows: list[PipelineRow] = []
        for share in shares:
            id = share.document.id
            if stored.get(id) == prints[id]:
                rows.append(PipelineRow(RowOutcome.UNCHANGED, share.input, id, share.source_bytes))
                continue
            row = self._to_embed(share, prints[id], (former.get(id), copies.get(id)))
            rows.append(replace(row, replaces=id in stored, source_bytes=share.source_bytes))
        return rows

    def _to_embed(self, share: Share, print_: str, versions: Sequence[IndexedDocument | None]) -> PipelineRow:
        document = share.document
        try:
            pieces = cut(document, tokenizer=self.tokenizer, chunking=self._plan.settings.chunking)
            known = known_vectors(pieces.digests, *versions)
            unknown = tuple(
                None if vector is not None else text for text, vector in zip(pieces.texts, known, strict=True)
            )
            return PipelineRow(
                RowOutcome.INDEX,
                share.input,
                document.id,
                fingerprint=print_,
                document=encode_document(document),
                passages=pieces.passages,
                texts=unknown,
                digests=pieces.digests,
                embedded=len(unknown) - unknown.count(None),
                dense=to_bytes(known, self._plan.space.dim),
                sparse=() if self._plan.dry_run else tuple(self.sparse.encode_passages(pieces.texts)),
            )
        except Exception as error:
            return failed_row(share.input, document.id, own_fault(error))


def to_bytes(vectors: Sequence[Vector | None], dim: int) -> bytes:
    """Row after row, zero where there is none; empty if there is none at all."""
    if all(vector is None for vector in vectors):
        return b""
    zero = np.zeros(dim, "<f4")
    return b"".join((zero if vector is None else vector.astype("<f4")).tobytes() for vector in vectors)


def own_fault(error: Exception) -> str:
    """What is wrong with this document. Raises `error` itself if it is not the document's: then it is everyone's."""
    if isinstance(error, InvalidInput):
        return str(error)
    if isinstance(error, PlatformError | MemoryError):
        raise error
    return f"{type(error).__name__}: {error}"
