"""`python -m jobs.evaluate`: measure the ranking of searches on a judged dataset, with the code that serves them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from jobs.evaluate.beir import read_dataset
from jobs.evaluate.ranking import rank
from jobs.evaluate.report import Setup, page
from jobs.evaluate.scores import compare_all, per_query_rows, result, score
from jobs.evaluate.tables import difference_table, mean_table
from jobs.runtime.steps import Steps
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError
from serve_app.settings import SearchSettings, load_settings

FAILED, USAGE = 1, 2
PIPED_COLUMNS = 120

EXAMPLES = """\b
Examples:
  python -m jobs.evaluate --dataset ../shared/data/cranfield
  python -m jobs.evaluate --dataset scifact --json per-query.jsonl --html report.html
  AIDOCS_SEARCH__PROFILES__RRF='{"fusion": "rrf"}' python -m jobs.evaluate --dataset nfcorpus --profile rrf
  AIDOCS_SEARCH__PROFILES__RRF='{"fusion": "rrf"}' python -m jobs.evaluate --dataset nfcorpus --compare rrf \\
    --html default-or-rrf.html

The dataset is a BEIR folder: corpus.jsonl, queries.jsonl (each may be .gz), qrels/SPLIT.tsv. It is indexed once, into
a temporary store that is deleted afterwards. A document ranks by its best passage.

--compare runs the same queries on the same index with another profile. It reports the mean difference, its 95 %
interval (paired bootstrap), p (two-sided paired randomisation test), and the number of queries that win, lose and tie.

The last line of stdout is a JSON object: {"dense": {"ndcg@10", "recall@100", "mrr@10"}, "sparse": ..., "hybrid": ...},
the means of --profile over the queries that have a relevant document. With --compare it also has "comparison":
{"baseline", "candidate", "modes": {"dense": {"ndcg@10": {"baseline", "candidate", "difference", "interval_95":
[low, high] or null, "p", "wins", "losses", "ties"}, ...}, ...}}; wins count for the candidate.
Exit code: 0 done, 1 failed, 2 usage error or invalid dataset."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


@cli.command(epilog=EXAMPLES)
def evaluate(
    *,
    dataset: Annotated[Path, typer.Option(help="BEIR folder.")],
    split: Annotated[str, typer.Option(help="Split of the judgements: qrels/SPLIT.tsv.")] = "test",
    profile: Annotated[
        str | None, typer.Option(help="Search profile to evaluate.", show_default="the default profile")
    ] = None,
    compare: Annotated[str | None, typer.Option(help="Search profile to compare with --profile.")] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the measures and ranking of each query to this file, as JSON lines."),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a one-page report with plots to this file.")
    ] = None,
) -> None:
    """Index a judged dataset, run its queries in every mode and print how well the results are ranked."""
    try:
        settings = load_settings()
        profiles = profiles_to_run(settings.search, profile, compare)
        judged = read_dataset(dataset, split)
        for path in (json_file, html_file):
            if path:
                require_writable(path)
    except (InvalidInput, ConfigurationError) as error:
        fail(error, USAGE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, so that the temporary store is deleted
    started_at = datetime.now(UTC)
    try:
        with Steps(errors) as steps:
            found = asyncio.run(rank(judged, settings, profiles, steps.advance))
    except PlatformError as error:
        fail(error, FAILED)
    if found.failed:
        first = found.failed[0]
        errors.print(Text(f"{len(found.failed)} documents could not be indexed: {first.id}: {first.error} ..."))
    scored = [score(judged, name, found.rankings[name]) for name in profiles]
    baseline, candidate = scored[0], scored[1] if compare else None
    comparisons = compare_all(baseline, candidate) if candidate else {}
    if json_file:
        with json_file.open("w", encoding="utf-8") as lines:
            for row in (row for each in scored for row in per_query_rows(judged, each)):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    if html_file:
        setup = Setup.of(settings, found, split, started_at)
        html_file.write_text(page(setup, judged, scored, comparisons), encoding="utf-8")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    console.print(mean_table(judged, scored))
    if candidate:
        console.print(difference_table(baseline, candidate, comparisons))
    print(json.dumps(result(baseline, candidate, comparisons)))


def profiles_to_run(search: SearchSettings, profile: str | None, compare: str | None) -> Sequence[str]:
    """The baseline and, with --compare, the candidate. Raises InvalidInput."""
    names = [profile or search.default_profile, *([compare] if compare else [])]
    for name in names:
        if name not in search.profiles:
            raise InvalidInput(f"no search profile {name!r}; there are: {', '.join(search.profiles)}")
    if len(set(names)) < len(names):
        raise InvalidInput(
            f"--compare {compare}: cannot compare a profile with itself; choose another one with --profile"
        )
    return names


def require_writable(path: Path) -> None:
    """Checks before the work starts, and keeps the file's content. Raises InvalidInput."""
    try:
        path.open("a").close()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def fail(error: PlatformError, code: int) -> NoReturn:
    errors.print(Text(f"error: {error}"))
    raise typer.Exit(code) from error


if __name__ == "__main__":
    cli()
