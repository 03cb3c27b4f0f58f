"""An evaluation as one HTML page, without scripts or external resources. The template escapes every text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Self

from jinja2 import Environment, StrictUndefined

from jobs.evaluate.beir import Dataset
from jobs.evaluate.charts import bin_counts, histogram, waterfall, whisker
from jobs.evaluate.ir_metrics import MEASURES
from jobs.evaluate.ranking import DEPTH, RankingRun
from jobs.evaluate.scores import Comparisons, Scored
from jobs.evaluate.significance import CONFIDENCE, RESAMPLES, Comparison, differences
from jobs.evaluate.tables import cells, interval_text, signed
from serve_app.settings import SearchProfile, Settings
from serve_app.types import Quantization

TEMPLATE = "report.html.j2"
PLOTTED = "ndcg@10"
HEADLINE_MODE = "hybrid"
LEVEL = 1 - CONFIDENCE  # p values below it are highlighted
SURE = f"{CONFIDENCE * 100:.0f} %"
LISTED_QUERIES = 10
LISTED_RANKS = 6
NBSP = "\N{NO-BREAK SPACE}"
SHOWN_CHARS = 300  # of a query
SHOWN_DIGITS = 12  # of a revision, which can be a hash


@dataclass(frozen=True, slots=True)
class Setup:
    """The conditions of a run, besides its dataset and profiles."""

    started_at: datetime
    split: str
    settings: Settings
    model: str
    precision: str
    failed_documents: int

    @classmethod
    def of(cls, settings: Settings, found: RankingRun, split: str, started_at: datetime) -> Self:
        model = f"{found.space.model}, revision {found.space.revision[:SHOWN_DIGITS]}, {found.space.dim} dimensions"
        return cls(started_at, split, settings, model, found.precision, len(found.failed))


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of a query list, as text. values, ranks: one for each profile. gain: "" if there is only one profile."""

    query: str
    text: str
    values: tuple[str, ...]
    gain: str
    ranks: tuple[str, ...]


def page(setup: Setup, judged: Dataset, scored: Sequence[Scored], comparisons: Comparisons) -> str:
    """scored: the baseline and, unless `comparisons` is empty, the candidate."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("jobs.evaluate").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        dataset=judged.name,
        profiles=[each.profile for each in scored],
        at=setup.started_at,
        facts=facts(setup, judged, scored),
        measures=list(MEASURES),
        plotted=PLOTTED,
        means=[(each.profile, mode, shown(row)) for each in scored for mode, row in each.means().items()],
        verdict=verdict(scored, comparisons),
        differences=list(difference_rows(comparisons)),
        confidence=SURE,
        level=f"{LEVEL:.2f}",
        resamples=RESAMPLES,
        depth=DEPTH,
        histograms=histograms(scored),
        waterfalls=waterfalls(scored) if comparisons else [],
        lists=[(mode, mode == HEADLINE_MODE, query_lists(judged, scored, mode)) for mode in scored[0].scores],
    )


def facts(setup: Setup, judged: Dataset, scored: Sequence[Scored]) -> list[tuple[str, str]]:
    chunking, embedding, store = setup.settings.chunking, setup.settings.embedding, setup.settings.store
    documents = f"{len(judged.documents):,} documents"
    if setup.failed_documents:
        documents += f" ({setup.failed_documents:,} could not be indexed)"
    precision = f"{setup.precision}, {embedding.engine} engine"
    if store.quantization is not Quantization.NONE:
        precision += f"; vectors quantised: {store.quantization}"
    names = ["Profile"] if len(scored) == 1 else ["Baseline", "Candidate"]
    profiles = [f"{each.profile}: {described(setup.settings.search.profiles[each.profile])}" for each in scored]
    return [
        ("Dataset", f"{judged.name}, {documents}, {len(judged.queries):,} queries of split {setup.split}"),
        ("Model", setup.model),
        ("Precision", precision),
        ("Chunking", f"{chunking.max_tokens} tokens a passage, overlap {chunking.overlap_tokens}"),
        *zip(names, profiles, strict=True),
        ("Begun", f"{setup.started_at:%Y-%m-%d %H:%M} UTC"),
    ]


def described(profile: SearchProfile) -> str:
    """The fields that differ from their defaults."""
    changed = profile.model_dump(mode="json", exclude_defaults=True)
    return ", ".join(f"{name} = {value}" for name, value in changed.items()) or "all defaults"


def shown(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name]:.4f}" for name in MEASURES]


def verdict(scored: Sequence[Scored], comparisons: Comparisons) -> str:
    """The most important comparison in a sentence; "" without comparisons."""
    if not comparisons:
        return ""
    (baseline, candidate), found = scored, comparisons[HEADLINE_MODE][PLOTTED]
    if not found.wins and not found.losses:
        said = "It is the same for every query"
    elif found.p >= LEVEL:
        said = "This is not statistically significant"
    else:
        said = f"This is statistically significant: {candidate.profile} is {better_or_worse(found)}"
    return (
        f"In {HEADLINE_MODE} mode {candidate.profile} has a mean {PLOTTED} of {found.candidate:.4f}, "
        f"{baseline.profile} {found.baseline:.4f}: {minus(signed(found.difference))} "
        f"({SURE} interval {minus(interval_text(found))}, p = {found.p:.4f}). {said}."
    )


def better_or_worse(comparison: Comparison) -> str:
    return "better" if comparison.difference > 0 else "worse"


def difference_rows(comparisons: Comparisons) -> Iterator[tuple[str, str, list[str], str, str]]:
    """Mode, measure, figures, picture of the interval, and "better", "worse" or "" (not significant)."""
    found = [comparison for row in comparisons.values() for comparison in row.values()]
    furthest = max((abs(end) for each in found for end in each.interval or ()), default=0.0)
    for mode, row in comparisons.items():
        for name, comparison in row.items():
            low, high = comparison.interval or (comparison.difference, comparison.difference)
            picture = whisker(low, comparison.difference, high, furthest) if comparison.interval else ""
            said = better_or_worse(comparison) if comparison.p < LEVEL else ""
            yield mode, name, [minus(cell) for cell in cells(comparison)], picture, said


def histograms(scored: Sequence[Scored]) -> list[tuple[str, str]]:
    """Mode and drawing; all drawings have the same scale."""
    by_mode = {mode: {each.profile: each.values(mode, PLOTTED) for each in scored} for mode in scored[0].scores}
    most = max(max(bin_counts(values)) for series in by_mode.values() for values in series.values())
    return [
        (mode, histogram(f"spread-{mode}", f"{PLOTTED}, {mode}", PLOTTED, row, most)) for mode, row in by_mode.items()
    ]


def waterfalls(scored: Sequence[Scored]) -> list[tuple[str, str]]:
    """Mode and drawing; the drawing is "" if no query differs."""
    baseline, candidate = scored
    by_mode = {mode: gains(baseline, candidate, mode) for mode in baseline.scores}
    return [
        (mode, waterfall(f"gains-{mode}", f"Gain in {PLOTTED}, {mode}", row) if any(row) else "")
        for mode, row in by_mode.items()
    ]


def gains(baseline: Scored, candidate: Scored, mode: str) -> list[float]:
    return differences(baseline.values(mode, PLOTTED), candidate.values(mode, PLOTTED)).tolist()


def query_lists(judged: Dataset, scored: Sequence[Scored], mode: str) -> list[tuple[str, list[QueryRow]]]:
    """Title and queries: the worst ones or, in a comparison, those with the largest gain and the largest loss."""
    queries = list(scored[0].scores[mode])
    if len(scored) == 1:
        worst = sorted(
            queries, key=lambda query: tuple(scored[0].scores[mode][query].values())
        )  # by nDCG, then by the other measures
        return [("Worst", [query_row(judged, scored, mode, query) for query in worst[:LISTED_QUERIES]])]
    change = gains(scored[0], scored[1], mode)
    most = sorted(range(len(queries)), key=lambda i: -change[i])
    won = [i for i in most if change[i] > 0][:LISTED_QUERIES]
    lost = [i for i in reversed(most) if change[i] < 0][:LISTED_QUERIES]
    return [
        (title, [query_row(judged, scored, mode, queries[i]) for i in some])
        for title, some in (("Won most", won), ("Lost most", lost))
    ]


def query_row(judged: Dataset, scored: Sequence[Scored], mode: str, query: str) -> QueryRow:
    text, values = judged.queries[query], [each.scores[mode][query][PLOTTED] for each in scored]
    return QueryRow(
        query=query,
        text=text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…",
        values=tuple(f"{value:.3f}" for value in values),
        gain=minus(f"{values[1] - values[0]:+.3f}") if len(values) > 1 else "",
        ranks=tuple(ranks_text(each.rankings[mode][query], judged.judgements[query]) for each in scored),
    )


def ranks_text(ranking: Sequence[str], judgements: Mapping[str, int]) -> str:
    """Ranks of the relevant documents, and how many were found: `1, 4, 9 (3 of 5)`."""
    relevant = {document for document, grade in judgements.items() if grade > 0}
    ranks = [str(rank) for rank, document in enumerate(ranking, start=1) if document in relevant]
    if not ranks:
        return f"none of {len(relevant)}"
    more = "…" if len(ranks) > LISTED_RANKS else ""
    return f"{', '.join(ranks[:LISTED_RANKS])}{more} ({len(ranks)}{NBSP}of{NBSP}{len(relevant)})"


def minus(text: str) -> str:
    """Replaces hyphens by minus signs, which are as wide as a plus sign."""
    return text.replace("-", "−")
