"""benchmarks.json, the table on the terminal, and the same table in README between its two markers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import latency
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


@dataclass(frozen=True)
class Results:
    """Of one whole run. latency: see latency.measure."""

    machine: dict[str, Any]
    rounds: int
    comparisons: Sequence[Comparison]
    latency: dict[str, Any]

    @classmethod
    def from_json(cls, text: str) -> Results:
        content = json.loads(text)
        comparisons = [Comparison.from_json(each) for each in content["comparisons"]]
        return cls(content["machine"], content["rounds"], comparisons, content["latency"])

    def to_json(self) -> str:
        content = asdict(self) | {"comparisons": [c.to_json() for c in self.comparisons]}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def markdown(self) -> str:
        flags = ", ".join(self.machine["flags"]) or "none"
        lines = [
            f"Medians of {self.rounds} interleaved rounds (least–most), of indexing one run, on "
            f"{self.machine['cpus']} cores of {self.machine['cpu']}, {self.machine['memory_gib']:g} GiB; vector "
            f"extensions: {flags}. A ratio above 1 is in our favour.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|" + "---|" * len(HEAD),
            *("| " + " | ".join(row) + " |" for row in rows(self.comparisons)),
            "",
            latency.markdown(self.latency),
            "",
            "![latency over offered load](tests/bench/latency.svg)",
        ]
        return "\n".join(lines)


def into_readme(table: str, readme: Path) -> None:
    text = readme.read_text()
    between = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END), re.DOTALL)
    if not between.search(text):
        raise ValueError(f"{readme.name} lacks the markers {BEGIN} … {END}")
    readme.write_text(between.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text))
