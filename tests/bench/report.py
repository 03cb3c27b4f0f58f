"""benchmarks.json, the table on the terminal, and the same table in README between its two markers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.rounds import Comparison

BEGIN, END = "<!-- benchmarks: begin, written by `make bench` -->", "<!-- benchmarks: end -->"
HEAD = ("figure", "ai-docs", "reference in the same run", "ratio", "asked for")


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    return [
        (
            c.figure + (f" ({c.note})" if c.note else ""),
            str(c.ours),
            f"{c.reference.name}: {c.reference}",
            f"{c.ratio:.2f} ({min(c.ratios):.2f}–{max(c.ratios):.2f})",
            f"≥ {c.target:g}" if c.target else "–",
        )
        for c in comparisons
    ]


def markdown(comparisons: Sequence[Comparison], machine: dict[str, Any], rounds: int) -> str:
    flags = ", ".join(machine["flags"]) or "none"
    lines = [
        f"Medians of {rounds} interleaved rounds (least–most) on {machine['cpus']} cores of {machine['cpu']}, "
        f"{machine['memory_gib']:g} GiB; vector extensions: {flags}.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row) + " |" for row in rows(comparisons)),
    ]
    return "\n".join(lines)


def write(comparisons: Sequence[Comparison], machine: dict[str, Any], rounds: int, path: Path) -> None:
    content = {"machine": machine, "rounds": rounds, "comparisons": [c.to_json() for c in comparisons]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def into_readme(table: str, readme: Path) -> None:
    text = readme.read_text()
    between = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END), re.DOTALL)
    if not between.search(text):
        raise ValueError(f"{readme.name} lacks the markers {BEGIN} … {END}")
    readme.write_text(between.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text))
