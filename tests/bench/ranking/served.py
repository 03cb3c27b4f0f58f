"""Measures the latency and ranking quality of each configured search profile, with the code that serves it.

Engine, store and search run in one process with one client.

Examples:  python -m tests.bench.ranking.served --dataset ../shared/data/cranfield
           AIDOCS_SEARCH__PROFILES__SMOOTH__SMOOTHING_CANDIDATES=50 python -m tests.bench.ranking.served --dataset …
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobs.evaluate.beir import Dataset, read_dataset
from jobs.evaluate.ir_metrics import mean_measures, measure
from jobs.evaluate.ranking import COLLECTION, index, search, temporary_assembly
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL

ROUNDS = 3


@dataclass(frozen=True)
class Served:
    """p50_ms: of each round, for ten hits with embedding and payload. measures: see jobs.evaluate.ir_metrics."""

    p50_ms: list[float]
    measures: dict[str, float]


async def served(data: Dataset, settings: Settings) -> dict[str, Served]:
    """Results by profile. A round runs each query with every profile in turn, so that conditions are equal."""
    profiles = sorted(settings.search.profiles)
    async with temporary_assembly(settings) as (assembly, store):
        await index(assembly.indexer(), data, silent)
        await store.optimize(LOCAL_PRINCIPAL.scope(COLLECTION))
        searcher = assembly.searcher()
        rounds = [await _round(searcher, data, profiles) for _ in range(ROUNDS)]
        return {name: Served([one[name] for one in rounds], await _measures(searcher, data, name)) for name in profiles}


def silent(step: str, done: int, total: int) -> None:
    """Shows no progress."""


async def _round(searcher: Searcher, data: Dataset, profiles: list[str]) -> dict[str, float]:
    took_ms: dict[str, list[float]] = {name: [] for name in profiles}
    for text in data.queries.values():
        for name in profiles:
            started_s = time.perf_counter()
            await searcher.search(LOCAL_PRINCIPAL, SearchRequest(COLLECTION, text, profile=name))
            took_ms[name].append((time.perf_counter() - started_s) * 1e3)
    return {name: statistics.median(each) for name, each in took_ms.items()}


async def _measures(searcher: Searcher, data: Dataset, profile: str) -> dict[str, float]:
    rankings = await search(searcher, data, SearchMode.HYBRID, profile, silent)
    return mean_measures(measure(ranking, data.judgements[query]) for query, ranking in rankings.items())


def table(profiles: dict[str, Served]) -> str:
    names = list(next(iter(profiles.values())).measures)
    lines = [f"| profile | {' | '.join(names)} | p50 ms | rounds |", "|---" * (len(names) + 3) + "|"]
    for profile, one in profiles.items():
        each = " ".join(f"{ms:.2f}" for ms in one.p50_ms)
        measures = " | ".join(f"{one.measures[name]:.4f}" for name in names)
        lines.append(f"| {profile} | {measures} | {statistics.median(one.p50_ms):.2f} | {each} |")
    return "\n".join(lines)


def main(
    dataset: Annotated[Path, typer.Option(help="BEIR folder.")],
    split: Annotated[str, typer.Option(help="Split of the judgements: qrels/SPLIT.tsv.")] = "test",
) -> None:
    print(table(asyncio.run(served(read_dataset(dataset, split), load_settings()))))


if __name__ == "__main__":
    typer.run(main)
