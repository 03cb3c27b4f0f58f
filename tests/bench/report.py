"""The results as benchmarks.json, as a table on the terminal, in docs/performance.md and, in part, in README.md."""

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
HEAD = ("figure", "ai-docs", "reference in the same run", "ratio", "target")
# Rows of README.md, by figure and reference: what users notice first, including missed targets.
CHOSEN = (
    ("engine, int8", "sentence-transformers"),
    ("/v1/embeddings, one short text, 16 clients", "FastAPI"),
    ("/v1/embeddings, 100 texts a request, 4 clients", "FastAPI"),
    ("hybrid search, 32 clients", "three deployments"),
    ("hybrid search, 1 client, p50", "in process"),
    ("repeated search (L1 hit), 32 clients", "empty handler"),
    ("indexing", "engine alone"),
    ("start to first answer", "Ray and an empty handler"),
)


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    return [
        (
            c.figure + (f" ({c.note})" if c.note else ""),
            str(c.ours),
            f"{c.reference.name}: {c.reference}",
            f"{c.ratio:.2f} ({min(c.ratios):.2f}–{max(c.ratios):.2f})",
            target_of(c),
        )
        for c in comparisons
    ]


def target_of(comparison: Comparison) -> str:
    if not comparison.target:
        return "–"
    missed = "" if comparison.ratio >= comparison.target else ", **missed**"
    return f"≥ {comparison.target:g}{missed}"


def table(comparisons: Sequence[Comparison]) -> list[str]:
    head = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return head + ["| " + " | ".join(row) + " |" for row in rows(comparisons)]


@dataclass(frozen=True)
class Results:
    """Results of a whole run. latency: see latency.measure."""

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

    def chosen(self) -> str:
        """The table of README.md. Raises KeyError if one of its rows was not measured."""
        measured = {(c.figure, c.reference.name): c for c in self.comparisons}
        return "\n".join(table([measured[each] for each in CHOSEN]))

    def markdown(self) -> str:
        """All results, for docs/performance.md."""
        flags = ", ".join(self.machine["flags"]) or "none"
        lines = [
            f"Medians of {self.rounds} interleaved rounds, the lowest and the highest round in brackets (indexing: one "
            f"run), on {self.machine['cpus']} cores of {self.machine['cpu']} with {self.machine['memory_gib']:g} GiB; "
            f"vector extensions: {flags}. A ratio above 1 is in favour of ai-docs.",
            "",
            *table(self.comparisons),
            "",
            latency.markdown(self.latency),
            "",
            "![latency over offered load](images/latency.svg)",
        ]
        return "\n".join(lines)


def into_page(content: str, page: Path) -> None:
    """Replace the text between the two markers. Raises ValueError if the page lacks them."""
    text = page.read_text()
    between = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END), re.DOTALL)
    if not between.search(text):
        raise ValueError(f"{page.name} lacks the markers {BEGIN} … {END}")
    page.write_text(between.sub(lambda _: f"{BEGIN}\n{content}\n{END}", text))
