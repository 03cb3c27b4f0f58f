"""What each search profile of the settings costs and how well it ranks, by the code that serves it: engine, store and
search in one process, one client.

Examples:  python -m tests.bench.ranking_served --dataset ../shared/data/cranfield
           AIDOCS_SEARCH__PROFILES__SMOOTH__SMOOTHING_CANDIDATES=50 python -m tests.bench.ranking_served --dataset …
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobs.beir import Dataset, read_dataset
from jobs.ir_metrics import mean_measures, measure
from serve_app.cache.tiered import Tiered
from serve_app.documents.indexing import Indexer
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.search.release import Release
from serve_app.search.request import SearchRequest
from serve_app.search.service import Searcher
from serve_app.settings import Settings, load_settings
from serve_app.store.edge import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import LOCAL_PRINCIPAL

COLLECTION, SLICE_DOCUMENTS = "ranking", 64
DEPTH, ROUNDS = 100, 3


@dataclass(frozen=True)
class Served:
    """p50_ms: of each round, ten hits, embedding and payload included. measures: of jobs.ir_metrics."""

    p50_ms: list[float]
    measures: dict[str, float]


async def served(data: Dataset, settings: Settings) -> dict[str, Served]:
    """By profile. A round asks every question of every profile in turn, so that all have the same neighbours."""
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    embedder, sparse = LocalEmbedder(engine), Bm25SparseEncoder()
    with tempfile.TemporaryDirectory(prefix="ai-docs-ranking-") as folder:
        store = EdgeStore.open(Path(folder), settings.store)
        try:
            indexer = Indexer(
                tokenizer=engine.tokenizer,
                chunking=settings.chunking,
                embedder=embedder,
                sparse=sparse,
                store=store,
            )
            for start in range(0, len(data.documents), SLICE_DOCUMENTS):
                await indexer.index(LOCAL_PRINCIPAL.scope(COLLECTION), data.documents[start : start + SLICE_DOCUMENTS])
            await store.optimize(LOCAL_PRINCIPAL.scope(COLLECTION))
            searcher = Searcher(
                embedder=embedder,
                sparse=sparse,
                store=store,
                search=settings.search,
                batching=settings.batching,
                release=Release.of(settings, engine.space, engine.precision).name,
                cache=Tiered(()),
            )
            rounds = [await _round(searcher, data, sorted(settings.search.profiles)) for _ in range(ROUNDS)]
            return {
                name: Served([one[name] for one in rounds], await _measures(searcher, data, name))
                for name in sorted(settings.search.profiles)
            }
        finally:
            await store.close()
            embedder.close()


async def _round(searcher: Searcher, data: Dataset, profiles: list[str]) -> dict[str, float]:
    took_ms: dict[str, list[float]] = {name: [] for name in profiles}
    for text in data.queries.values():
        for name in profiles:
            started_s = time.perf_counter()
            await searcher.search(LOCAL_PRINCIPAL, SearchRequest(COLLECTION, text, profile=name))
            took_ms[name].append((time.perf_counter() - started_s) * 1e3)
    return {name: statistics.median(each) for name, each in took_ms.items()}


async def _measures(searcher: Searcher, data: Dataset, profile: str) -> dict[str, float]:
    per_query = []
    for query, text in data.queries.items():
        request = SearchRequest(COLLECTION, text, limit=DEPTH, group_by="document_id", profile=profile)
        hits = (await searcher.search(LOCAL_PRINCIPAL, request)).found.hits
        per_query.append(measure([hit.document_id for hit in hits], data.judgements[query]))
    return mean_measures(per_query)


def table(profiles: dict[str, Served]) -> str:
    names = list(next(iter(profiles.values())).measures)
    lines = [f"| profile | {' | '.join(names)} | p50 ms | rounds |", "|---" * (len(names) + 3) + "|"]
    for profile, one in profiles.items():
        each = " ".join(f"{ms:.2f}" for ms in one.p50_ms)
        measures = " | ".join(f"{one.measures[name]:.4f}" for name in names)
        lines.append(f"| {profile} | {measures} | {statistics.median(one.p50_ms):.2f} | {each} |")
    return "\n".join(lines)


def main(
    dataset: Annotated[Path, typer.Option(help="BEIR folder")],
    split: Annotated[str, typer.Option(help="qrels/SPLIT.tsv")] = "test",
) -> None:
    print(table(asyncio.run(served(read_dataset(dataset, split), load_settings()))))


if __name__ == "__main__":
    typer.run(main)
