"""`make bench` or `python -m tests.bench`: ratios against references that are started in the same run.

Writes benchmarks.json and README's table, and prints it. Nothing else should run on the machine meanwhile.

Examples:  python -m tests.bench  ·  python -m tests.bench --only engine --rounds 7
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve_app.embedding.engine import prepare
from serve_app.settings import load_settings
from tests.bench import cache, embeddings, engine, machine, report, search, start
from tests.bench.contenders import contenders
from tests.bench.prepared import prepared_store
from tests.bench.rounds import Comparison

ROOT = Path(__file__).parents[2]
LEAST_ROUNDS = 5


class Part(StrEnum):
    ENGINE = "engine"
    EMBEDDINGS = "embeddings"
    SEARCH = "search"
    CACHE = "cache"
    START = "start"


def main(
    only: Annotated[list[Part] | None, typer.Option(help="parts to run; README is left as it is then")] = None,
    rounds: Annotated[int, typer.Option(min=LEAST_ROUNDS)] = LEAST_ROUNDS,
    documents: Annotated[int, typer.Option(min=1_000, help="that are searched; embedded once")] = 52_000,
    out: Annotated[Path, typer.Option()] = ROOT / "benchmarks.json",
) -> None:
    terminal = Console()
    settings = load_settings()
    comparisons: list[Comparison] = []
    parts = only or list(Part)
    if Part.ENGINE in parts:
        with terminal.status("engine"):
            comparisons += engine.compare(settings, rounds)
    if Part.EMBEDDINGS in parts or Part.SEARCH in parts:
        prepare(settings.embedding, settings.data_dir)
        prepared = prepared_store(settings, documents)
        with terminal.status("embeddings and searches"), contenders(settings, prepared) as them:
            comparisons += embeddings.compare(them, rounds) if Part.EMBEDDINGS in parts else []
            comparisons += search.compare(them, rounds) if Part.SEARCH in parts else []
    if Part.CACHE in parts:
        with terminal.status("cache"):
            comparisons += cache.compare(rounds)
    if Part.START in parts:
        with terminal.status("starting and stopping"):
            comparisons.append(start.compare(settings, rounds))
    table = Table(*report.HEAD)
    for row in report.rows(comparisons):
        table.add_row(*row)
    terminal.print(table)
    if not only:
        described = machine.describe()
        report.write(comparisons, described, rounds, out)
        report.into_readme(report.markdown(comparisons, described, rounds), ROOT / "README.md")


if __name__ == "__main__":
    typer.run(main)
