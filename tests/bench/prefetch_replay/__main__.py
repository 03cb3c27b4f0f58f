"""Measures whether predictive prefetching is worth its cost, on synthetic session logs with and without it.

The logs come from the judged queries of two collections, Cranfield and the summaries of installed packages. They are
not recorded sessions and show only what the assumptions in `sessions` imply. If you have a log of your own service,
trust it more than this benchmark.

Prefetching pays if it removes a larger share of the searches that users wait for (the cache's misses) than it adds to
the processor's work, in every log. Misses are the same in every run; times depend on the machine.

Examples:  python -m tests.bench.prefetch_replay --cranfield ../shared/data/cranfield  ·  … --sessions 200
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jobs.evaluate.beir import Dataset, read_dataset
from jobs.evaluate.ranking import COLLECTION, index, temporary_assembly
from serve_app.search.request import SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL, Lane
from tests.bench.prefetch_replay.replay import PAGE_HITS, Replayed, replay
from tests.bench.prefetch_replay.sessions import MAX_PAGES, MODELS, session_log
from tests.bench.ranking.packages import package_summaries

SEED = 20_260_105
QUERIES = 200  # of the installed packages
DOCUMENTS = 400  # of the installed packages: those of the queries, and a uniform sample of others
DOCUMENT_CHARS = 4_000  # longest document, so that indexing takes a minute
COLUMNS = ("prefetch", "hits", "made", "useful", "made/useful", "p50 ms", "p95 ms", "mean ms", "misses", "work")


def main(
    cranfield: Annotated[Path, typer.Option(help="BEIR folder of Cranfield; skipped if missing.")] = Path(
        "data/cranfield"
    ),
    sessions: Annotated[int, typer.Option(min=10, help="Sessions in each log.")] = 500,
) -> None:
    terminal = Console()
    datasets = [installed_packages()]
    if cranfield.is_dir():
        datasets.append(read_dataset(cranfield))
    else:
        terminal.print(f"skipped Cranfield: {cranfield} is not a folder; set it with --cranfield")
    settings = load_settings()
    for dataset in datasets:
        asyncio.run(measure(terminal, dataset, settings, sessions))


async def measure(terminal: Console, dataset: Dataset, settings: Settings, sessions: int) -> None:
    async with temporary_assembly(settings) as (assembly, _):
        with terminal.status(f"indexing {dataset.name}"):
            await index(assembly.indexer(), dataset, lambda *_: None)
            pages = await first_relevant_pages(assembly.searcher(), dataset)
        texts = list(dataset.queries.values())
        vectors = (await assembly.first_model.embedder.embed(texts, Lane.BULK)).vectors
        for model in MODELS:
            log = session_log(dataset.queries, vectors, pages, model, sessions=sessions, seed=SEED)
            with terminal.status(f"{dataset.name}, {model.name}"):
                await replay(log[:50], assembly, prefetch=False)  # warms the engine and the store
                off = await replay(log, assembly, prefetch=False)
                on = await replay(log, assembly, prefetch=True)
            terminal.print(table(f"{dataset.name}, {model.name}: {len(log)} searches", off, on))


async def first_relevant_pages(searcher: Searcher, dataset: Dataset) -> dict[str, int]:
    """By query, the page with its first relevant document; a query without one in MAX_PAGES pages is missing."""
    found: dict[str, int] = {}
    for id, text in dataset.queries.items():
        request = SearchRequest(COLLECTION, text, MAX_PAGES * PAGE_HITS)
        hits = (await searcher.search(LOCAL_PRINCIPAL, request)).found.hits
        grades = dataset.judgements[id]
        ranks = [rank for rank, hit in enumerate(hits) if grades.get(hit.document_id, 0) > 0]
        if ranks:
            found[id] = ranks[0] // PAGE_HITS
    return found


def installed_packages() -> Dataset:
    whole = package_summaries(QUERIES)
    wanted = {id for grades in whole.judgements.values() for id in grades}
    others = [document for document in whole.documents if document.id not in wanted]
    chosen = wanted | {one.id for one in random.Random(SEED).sample(others, min(DOCUMENTS - len(wanted), len(others)))}
    documents = [replace(one, text=one.text[:DOCUMENT_CHARS]) for one in whole.documents if one.id in chosen]
    return replace(whole, documents=tuple(documents))


def table(title: str, off: Replayed, on: Replayed) -> Table:
    """p50, p95, mean: of the users' waits. misses: change against no prefetching. work: processor time of prefetches
    over that of the searches without prefetching."""
    shown = Table(*COLUMNS, title=title)
    for name, one in (("off", off), ("on", on)):
        shown.add_row(
            name,
            f"{one.hits / one.searches:.1%}",
            f"{one.prefetches:.0f}",
            f"{one.useful:.0f}",
            f"{one.prefetches / one.useful:.1f}" if one.useful else "–",
            f"{one.wait_ms(50):.2f}",
            f"{one.wait_ms(95):.2f}",
            f"{one.mean_wait_ms:.2f}",
            f"{(one.searches - one.hits) / (off.searches - off.hits) - 1:+.1%}",
            f"{one.prefetches_cpu_s / off.searches_cpu_s:+.1%}",
        )
    return shown


if __name__ == "__main__":
    typer.run(main)
