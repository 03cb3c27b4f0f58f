"""Indexes a judged set once and asks its queries in every mode, with the code that serves searches."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.evaluate.beir import Dataset
from jobs.evaluate.ir_metrics import MEASURES
from jobs.evaluate.scores import MODES, Rankings
from jobs.runtime.slices import slices
from serve_app.assembly import Assembly, load_assembly
from serve_app.documents.indexing import FailedDocument, Indexer
from serve_app.errors import PlatformError
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import LOCAL_PRINCIPAL, Principal, VectorSpace

Advance = Callable[[str, int, int], None]  # step, done, of how many

COLLECTION = "evaluation"
SLICE_DOCUMENTS = 64
SLICE_QUERIES = 32
DEPTH = max(k for _, k in MEASURES.values())


@dataclass(frozen=True, slots=True, eq=False)
class RankingRun:
    """rankings: for each profile and mode, the first DEPTH documents of each query. precision: what the engine computed
    in. failed: documents that could not be indexed, and so could not be found."""

    rankings: dict[str, dict[str, Rankings]]
    space: VectorSpace
    precision: str
    failed: list[FailedDocument]


@asynccontextmanager
async def temporary_assembly(settings: Settings) -> AsyncIterator[tuple[Assembly, EdgeStore]]:
    """With the first model of the settings and an empty store, which is deleted at the end. Raises PlatformError."""
    with tempfile.TemporaryDirectory(prefix="ai-docs-evaluate-") as folder:
        store = EdgeStore.open(Path(folder), settings.store)
        try:
            with load_assembly(settings, store, settings.embedding.of_each[:1]) as assembly:
                yield assembly, store
        finally:
            await store.close()


async def rank(judged: Dataset, settings: Settings, profiles: Sequence[str], advance: Advance) -> RankingRun:
    """Raises PlatformError."""
    async with temporary_assembly(settings) as (assembly, _):
        failed = await index(assembly.indexer(), judged, advance)
        searcher, model = assembly.searcher(), assembly.first_model
        rankings = {profile: await search_all(searcher, judged, profile, advance) for profile in profiles}
        return RankingRun(rankings, model.embedder.space, model.precision, failed)


async def index(indexer: Indexer, judged: Dataset, advance: Advance) -> list[FailedDocument]:
    failed: list[FailedDocument] = []
    done = 0
    for some in slices(judged.documents, SLICE_DOCUMENTS):
        report = await indexer.index(LOCAL_PRINCIPAL.scope(COLLECTION), some)
        failed.extend(report.failed)
        done += len(some)
        advance("indexing", done, len(judged.documents))
    return failed


async def search_all(searcher: Searcher, judged: Dataset, profile: str, advance: Advance) -> dict[str, Rankings]:
    return {mode.value: await search(searcher, judged, mode, profile, advance) for mode in MODES}


async def search(
    searcher: Searcher,
    judged: Dataset,
    mode: SearchMode,
    profile: str,
    advance: Advance,
    *,
    principal: Principal = LOCAL_PRINCIPAL,
    collection: str = COLLECTION,
    sticky_key: str = "",
) -> Rankings:
    """Raises the error of the first search that fails: a mean over the rest would be no measurement."""
    rankings: Rankings = {}
    for some in slices(judged.queries.items(), SLICE_QUERIES):
        requests = [
            SearchRequest(collection, text, limit=DEPTH, mode=mode, group_by="document_id", profile=profile)
            for _, text in some
        ]
        answers = await searcher.search_batch(principal, requests, sticky_key)
        for (query, _), answer in zip(some, answers, strict=True):
            if isinstance(answer, PlatformError):
                raise answer
            rankings[query] = [hit.document_id for hit in answer.found.hits]
        advance(f"searching, {mode.value}, profile {profile}", len(rankings), len(judged.queries))
    return rankings
