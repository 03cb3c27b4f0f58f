"""Measures recall@10 of dense search against exact search, for each quantisation and its search parameters.

With `--threads` it measures searches per second by the number of search threads instead. It changes only its own copies
of the store.

Examples:  python -m tests.bench.recall  ·  python -m tests.bench.recall --out recall.json  ·  … --threads
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import PlatformError
from serve_app.query_types import StoreQuery
from serve_app.settings import SearchProfile, StoreSettings, load_settings
from serve_app.store.edge.folders import copy_sparsely, index_folder
from serve_app.store.edge.store import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import FIRST_INDEX, Quantization, VectorSpace
from tests.bench import machine
from tests.bench.corpus import excerpts
from tests.bench.prepared import SCOPE, Prepared, prepared_store

QUERIES, WORDS = 300, (4, 12)
LIMIT = 10
EFS = (32, 64, 128, 256)
CODES = (Quantization.INT8, Quantization.BINARY, Quantization.TURBO)
RESCORED = ((False, 1.0), (True, 1.0), (True, 2.0), (True, 4.0), (True, 8.0))  # rescore, oversampling
THREADS = (1, 2, 4, 8)
CLIENTS, ROUNDS, ROUND_S = 32, 5, 3.0
NEVER = 1_000_000_000  # passages: no automatic optimisation
MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """Sizes of the memory-mapped files of a collection. Exact search and rescoring read the float32 vectors."""

    float32_mib: float
    codes_mib: float
    graph_mib: float


@dataclass(frozen=True)
class Measured:
    """recall: fraction of the ten nearest passages that were found. ms: median of one search at a time, in process."""

    quantization: Quantization
    hnsw_ef: int | None
    exact: bool
    rescore: bool
    oversampling: float
    recall: float
    ms: float
    sizes: Sizes


async def compare(prepared: Prepared, queries: Sequence[StoreQuery], work: Path) -> list[Measured]:
    """queries: dense queries. work: an empty folder."""
    measured: list[Measured] = []
    truth: list[set[str]] = []
    for quantization in Quantization:
        folder = copied(prepared, work / quantization.value)
        store = EdgeStore.open(folder, StoreSettings(quantization=quantization, optimize_after_passages=NEVER))
        try:
            await store.optimize(SCOPE)
            sizes = sizes_of(index_folder(folder / "store", SCOPE.at(FIRST_INDEX)))
            for how in search_profiles(quantization):
                found, ms = await searched(store, [asked(query, how) for query in queries])
                truth = truth or found  # exact search without quantisation comes first
                share = sum(len(a & b) for a, b in zip(found, truth, strict=True)) / sum(map(len, truth))
                measured.append(
                    Measured(quantization, how.hnsw_ef, how.exact, how.rescore, how.oversampling, share, ms, sizes)
                )
        finally:
            await store.close()
            shutil.rmtree(folder)
    return measured


def search_profiles(quantization: Quantization) -> Iterator[SearchProfile]:
    """The profiles to measure, exact search first."""
    if quantization is Quantization.NONE:
        yield SearchProfile(exact=True, oversampling=1)
    for rescore, oversampling in RESCORED if quantization in CODES else [(True, 1.0)]:
        for ef in EFS:
            yield SearchProfile(hnsw_ef=ef, rescore=rescore, oversampling=oversampling)


def asked(query: StoreQuery, how: SearchProfile) -> StoreQuery:
    return replace(
        query,
        limit=LIMIT,
        hnsw_ef=how.hnsw_ef,
        exact=how.exact,
        rescore=how.rescore,
        oversampling=how.oversampling,
    )


async def searched(store: EdgeStore, queries: Sequence[StoreQuery]) -> tuple[list[set[str]], float]:
    """The passages found for each query, and the median milliseconds of a search. The first tenth runs as a warm-up."""
    found: list[set[str]] = []
    took_ms: list[float] = []
    for query in queries[: len(queries) // 10]:
        await store.query_batch([query])
    for query in queries:
        started_s = time.perf_counter()
        [answer] = await store.query_batch([query])
        took_ms.append((time.perf_counter() - started_s) * 1e3)
        if isinstance(answer, PlatformError):
            raise answer
        found.append({hit.passage_id for hit in answer.hits})
    return found, statistics.median(took_ms)


async def compare_threads(prepared: Prepared, queries: Sequence[StoreQuery], work: Path) -> dict[int, list[float]]:
    """search_threads → searches per second of CLIENTS concurrent clients in each of ROUNDS interleaved rounds."""
    folder = copied(prepared, work / "threads")
    rates: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for number in range(ROUNDS + 1):  # the first one is a warm-up
        for threads in THREADS if number % 2 else reversed(THREADS):
            store = EdgeStore.open(folder, StoreSettings(search_threads=threads, optimize_after_passages=NEVER))
            try:
                if number == 0 and threads == THREADS[-1]:
                    await store.optimize(SCOPE)
                rate = await searches_per_s(store, queries)
            finally:
                await store.close()
            if number:
                rates[threads].append(rate)
    return rates


async def searches_per_s(store: EdgeStore, queries: Sequence[StoreQuery]) -> float:
    await store.query_batch(queries[:1])  # opens the collection
    started_s, done = time.perf_counter(), 0

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() < started_s + ROUND_S:
            [answer] = await store.query_batch([queries[(number * 7 + done) % len(queries)]])
            if isinstance(answer, PlatformError):
                raise answer
            done += 1

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return done / (time.perf_counter() - started_s)


def copied(prepared: Prepared, folder: Path) -> Path:
    (folder / "store").mkdir(parents=True)
    copy_sparsely(prepared.folder / "store", folder / "store")
    return folder


def sizes_of(collection: Path) -> Sizes:
    def mib(pattern: str) -> float:
        return sum(path.stat().st_blocks * 512 for path in collection.rglob(pattern)) / MIB

    return Sizes(mib("vector_storage-dense/matrix.dat"), mib("quantized.data"), mib("vector_index-dense/links*.bin"))


def table(measured: Sequence[Measured]) -> str:
    """A Markdown table with a row for each quantisation and rescoring and a column for each ef."""
    rows: dict[tuple[object, ...], list[Measured]] = {}
    for one in measured:
        rows.setdefault((one.quantization.value, one.exact, one.rescore, one.oversampling), []).append(one)
    lines = [
        "| codes (MiB) | rescored | " + " | ".join(f"ef {ef}" for ef in EFS) + " |",
        "|---" * (2 + len(EFS)) + "|",
    ]
    for (quantization, exact, rescore, oversampling), ones in rows.items():
        rescored = "exact" if exact else f"× {oversampling:g}" if rescore and quantization != "none" else "–"
        cells = [f"{one.recall:.3f} ({one.ms:.2f} ms)" for one in ones]
        cells += ["" for _ in range(len(EFS) - len(cells))]
        lines.append(f"| {quantization} ({ones[0].sizes.codes_mib:.1f}) | {rescored} | {' | '.join(cells)} |")
    return "\n".join(lines)


def threads_table(rates: dict[int, list[float]]) -> str:
    lines = ["| search_threads | searches/s | least | most |", "|---|---|---|---|"]
    for threads, each in rates.items():
        lines.append(f"| {threads} | {statistics.median(each):.0f} | {min(each):.0f} | {max(each):.0f} |")
    return "\n".join(lines)


def queries_of(prepared: Prepared, engine: EmbeddingEngine) -> list[StoreQuery]:
    """Queries of the default profile; their texts are excerpts of the stored documents."""
    profile, sparse = SearchProfile(), Bm25SparseEncoder()
    texts = excerpts(prepared.documents()[: prepared.passages], QUERIES, WORDS)  # each document is one passage
    return [
        StoreQuery(
            *(SCOPE, engine.space, vector, sparse.encode_query(text)),
            fusion=profile.to_fusion(),
            candidates=profile.candidates,
            oversampling=profile.oversampling,
        )
        for text, vector in zip(texts, engine.embed(texts).vectors, strict=True)
    ]


async def counted(folder: Path, space: VectorSpace, work: Path) -> Prepared:
    """The prepared store with its number of passages, even if its preparation was interrupted."""
    found = Prepared(folder, 0, space)
    store = EdgeStore.open(copied(found, work / "count"), StoreSettings(optimize_after_passages=NEVER))
    try:
        return replace(found, passages=(await store.count(SCOPE)).passages)
    finally:
        await store.close()


def main(
    folder: Annotated[
        Path | None, typer.Option(help="Folder made by tests.bench.prepared, perhaps incomplete.")
    ] = None,
    documents: Annotated[
        int, typer.Option(min=1_000, help="Documents in the searched collection; embedded once.")
    ] = 52_000,
    threads: Annotated[bool, typer.Option("--threads", help="Compare numbers of search threads.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the results, JSON.")] = None,
) -> None:
    settings = load_settings()
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        made = asyncio.run(counted(folder, engine.space, work)) if folder else prepared_store(settings, documents)
        queries = queries_of(made, engine)
        content: dict[str, object] = {"machine": machine.describe(), "passages": made.passages, "queries": len(queries)}
        if threads:
            rates = asyncio.run(compare_threads(made, queries, work))
            content["searches_per_s"] = rates
            text = threads_table(rates)
        else:
            measured = asyncio.run(compare(made, [replace(query, sparse=None) for query in queries], work))
            content["measured"] = [asdict(one) for one in measured]
            text = table(measured)
    print(f"{made.passages:,} passages, {len(queries)} queries\n{text}")
    if out:
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
