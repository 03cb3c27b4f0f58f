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

from serve_app.settings import load_settings
from tests.bench import cache, engine, machine, report, search
from tests.bench.rounds import Comparison

ROOT = Path(__file__).parents[2]
LEAST_ROUNDS = 5


class Part(StrEnum):
    ENGINE = "engine"
    SEARCH = "search"
    CACHE = "cache"


def main(
    only: Annotated[list[Part] | None, typer.Option(help="parts to run; README is left as it is then")] = None,
    rounds: Annotated[int, typer.Option(min=LEAST_ROUNDS)] = LEAST_ROUNDS,
    documents: Annotated[int, typer.Option(min=10, help="documents that are searched")] = 150,
    out: Annotated[Path, typer.Option()] = ROOT / "benchmarks.json",
) -> None:
    terminal = Console()
    settings = load_settings()
    comparisons: list[Comparison] = []
    if not only or Part.ENGINE in only:
        with terminal.status("engine"):
            comparisons += engine.compare(settings, rounds)
    if not only or Part.SEARCH in only:
        comparisons += search.compare(settings, documents, rounds, terminal)
    if not only or Part.CACHE in only:
        with terminal.status("cache"):
            comparisons += cache.compare(rounds)
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
