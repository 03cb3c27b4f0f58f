"""Turns rankings into measures, comparisons and output rows. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.evaluate.beir import Dataset
from jobs.evaluate.ir_metrics import MEASURES, mean_measures, measure
from jobs.evaluate.significance import Comparison, compare
from serve_app.search.request import SearchMode

Rankings = dict[str, list[str]]  # query id → document ids, best first
Measures = dict[str, float]  # measure → value
Comparisons = dict[str, dict[str, Comparison]]  # mode → measure → comparison

MODES = (SearchMode.DENSE, SearchMode.SPARSE, SearchMode.HYBRID)
WRITTEN_DECIMALS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rankings and measures of one profile, by mode and query id, with the queries in the same order everywhere."""

    profile: str
    rankings: Mapping[str, Rankings]
    scores: Mapping[str, Mapping[str, Measures]]

    def means(self) -> dict[str, Measures]:
        """Mode → measure → mean over queries."""
        return {mode: mean_measures(per_query.values()) for mode, per_query in self.scores.items()}

    def values(self, mode: str, name: str) -> list[float]:
        """One measure of each query."""
        return [row[name] for row in self.scores[mode].values()]


def score(judged: Dataset, profile: str, rankings: Mapping[str, Rankings]) -> Scored:
    scores = {
        mode: {query: measure(found[query], grades) for query, grades in judged.judgements.items()}
        for mode, found in rankings.items()
    }
    return Scored(profile, rankings, scores)


def compare_all(baseline: Scored, candidate: Scored) -> Comparisons:
    return {
        mode: {name: compare(baseline.values(mode, name), candidate.values(mode, name)) for name in MEASURES}
        for mode in baseline.scores
    }


def result(baseline: Scored, candidate: Scored | None, comparisons: Comparisons) -> dict[str, object]:
    """The last line of stdout: means of the baseline and, with a candidate, `comparison`."""
    means: dict[str, object] = {
        mode: {name: rounded(value) for name, value in row.items()} for mode, row in baseline.means().items()
    }
    if candidate is None:
        return means
    modes = {mode: {name: figures(c) for name, c in row.items()} for mode, row in comparisons.items()}
    return means | {"comparison": {"baseline": baseline.profile, "candidate": candidate.profile, "modes": modes}}


def figures(comparison: Comparison) -> dict[str, object]:
    interval = comparison.interval
    return {
        "baseline": rounded(comparison.baseline),
        "candidate": rounded(comparison.candidate),
        "difference": rounded(comparison.difference),
        "interval_95": interval and [rounded(end) for end in interval],
        "p": rounded(comparison.p),
        "wins": comparison.wins,
        "losses": comparison.losses,
        "ties": comparison.ties,
    }


def rounded(value: float) -> float:
    return round(value, WRITTEN_DECIMALS) + 0.0  # no -0.0


def per_query_rows(judged: Dataset, scored: Scored) -> Iterator[dict[str, object]]:
    for mode, per_query in scored.scores.items():
        for query, values in per_query.items():
            row = {"profile": scored.profile, "mode": mode, "query": query, "text": judged.queries[query], **values}
            yield {**row, "ranking": scored.rankings[mode][query]}
