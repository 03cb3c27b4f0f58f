"""`make bench` or `python -m tests.bench`: benchmarks as ratios to references that are measured in the same run.

Prints the tables and writes benchmarks.json, the plot, and the tables in docs/performance.md and README.md. It takes a
quarter of an hour, and half an hour more the first time. Nothing else should run on the machine meanwhile.

Examples:  python -m tests.bench  ·  python -m tests.bench --only engine --rounds 7  ·  … --only memory  (ten minutes)
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from serve_app.embedding.engine import prepare
from serve_app.settings import load_settings
from tests.bench import cache, embeddings, engine, indexing, latency, machine, memory, parallel, report, search, start
from tests.bench.contenders import contenders
from tests.bench.prepared import prepared_store
from tests.bench.rounds import Comparison

ROOT = Path(__file__).parents[2]
PLOT = ROOT / "docs" / "images" / "latency.svg"
LEAST_ROUNDS = 5


class Part(StrEnum):
    ENGINE = "engine"
    EMBEDDINGS = "embeddings"
    SEARCH = "search"
    CACHE = "cache"
    START = "start"
    INDEXING = "indexing"
    PARALLEL = "parallel"
    LATENCY = "latency"
    MEMORY = "memory"


DEFAULT = [part for part in Part if part is not Part.MEMORY]  # memory takes ten minutes and has no reference


def main(
    only: Annotated[
        list[Part] | None, typer.Option(help="Run only this part and write no files. Can be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=LEAST_ROUNDS, help="Rounds of each measurement.")] = LEAST_ROUNDS,
    documents: Annotated[
        int, typer.Option(min=1_000, help="Documents in the searched collection; embedded once.")
    ] = 52_000,
    out: Annotated[Path, typer.Option(help="File for the results, JSON.")] = ROOT / "benchmarks.json",
) -> None:
    terminal = Console()
    comparisons: list[Comparison] = []
    latencies: dict[str, Any] = {}
    try:
        for measured in measure(terminal, set(only or DEFAULT), rounds, documents):
            if isinstance(measured, Comparison):
                comparisons.append(measured)
            else:
                latencies = measured
    finally:  # prints what was measured before an error
        print_tables(terminal, comparisons, latencies)
    if not only:
        results = report.Results(machine.describe(), rounds, comparisons, latencies)
        out.write_text(results.to_json())
        report.into_page(results.markdown(), ROOT / "docs" / "performance.md")
        report.into_page(results.chosen(), ROOT / "README.md")
        latency.plot(latencies, PLOT)


def measure(terminal: Console, parts: set[Part], rounds: int, documents: int) -> Iterator[Comparison | dict[str, Any]]:
    """Runs the parts one after another. A dict is the result of latency.measure."""
    settings = load_settings()
    prepare(settings.embedding, settings.data_dir)
    if Part.ENGINE in parts:
        with terminal.status("engine"):
            yield from engine.compare(settings, rounds)
    if parts & {Part.EMBEDDINGS, Part.SEARCH, Part.LATENCY}:
        prepared = prepared_store(settings, documents)
        with terminal.status("embeddings, searches, latency"), contenders(settings, prepared) as them:
            if Part.EMBEDDINGS in parts:
                yield from embeddings.compare(them, rounds)
            if Part.SEARCH in parts:
                yield from search.compare(them, rounds)
            if Part.LATENCY in parts:
                yield latency.measure(them)
    if Part.CACHE in parts:
        with terminal.status("cache"):
            yield from cache.compare(rounds)
    if Part.START in parts:
        with terminal.status("starting and stopping"):
            yield start.compare(settings, rounds)
    if Part.INDEXING in parts:
        with terminal.status("indexing"):
            yield indexing.compare(settings, prepared_store(settings, documents))
    if Part.PARALLEL in parts:
        with terminal.status("parallel engine"):
            yield from parallel.compare(rounds)
    if Part.MEMORY in parts:
        with terminal.status("ten minutes of load"):
            yield memory.compare(settings, prepared_store(settings, documents))


def print_tables(terminal: Console, comparisons: list[Comparison], latencies: dict[str, Any]) -> None:
    table = Table(*report.HEAD)
    for row in report.rows(comparisons):
        table.add_row(*row)
    terminal.print(table)
    if latencies:
        terminal.print(Markdown(latency.markdown(latencies)))


if __name__ == "__main__":
    typer.run(main)
