"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from jobs.evaluate.beir import Dataset
from jobs.evaluate.ir_metrics import MEASURES
from jobs.evaluate.scores import WRITTEN_DECIMALS, Comparisons, Scored, rounded
from jobs.evaluate.significance import CONFIDENCE, Comparison


def mean_table(judged: Dataset, scored: Sequence[Scored]) -> Table:
    """One row for each mode and profile."""
    caption = f"{judged.name}: {len(judged.documents):,} documents, {len(judged.queries):,} queries"
    several = len(scored) > 1
    rows = Table(*(["profile"] if several else []), "mode", *MEASURES, title=escape(caption), title_justify="left")
    for each in scored:
        for mode, values in each.means().items():
            name = [escape(each.profile)] if several else []
            rows.add_row(*name, mode, *(f"{values[measure]:.4f}" for measure in MEASURES))
    return rows


def difference_table(baseline: Scored, candidate: Scored, comparisons: Comparisons) -> Table:
    caption = f"{candidate.profile} (candidate) minus {baseline.profile} (baseline), paired over queries"
    rows = Table(title=escape(caption), title_justify="left")
    for name in ("mode", "measure"):
        rows.add_column(name)
    for name in ("baseline", "candidate", "difference", f"{CONFIDENCE:.0%} interval", "p", "won/lost/tied"):
        rows.add_column(name, justify="right", no_wrap=True)
    for mode, measures in comparisons.items():
        for name, comparison in measures.items():
            rows.add_row(mode, name, *cells(comparison))
    return rows


def cells(comparison: Comparison) -> list[str]:
    return [
        f"{comparison.baseline:.4f}",
        f"{comparison.candidate:.4f}",
        signed(comparison.difference),
        interval_text(comparison),
        f"{comparison.p:.4f}",
        f"{comparison.wins}/{comparison.losses}/{comparison.ties}",
    ]


def interval_text(comparison: Comparison) -> str:
    """`-` without an interval."""
    return " to ".join(signed(end) for end in comparison.interval) if comparison.interval else "-"


def signed(value: float) -> str:
    return f"{rounded(value):+.{WRITTEN_DECIMALS}f}"
