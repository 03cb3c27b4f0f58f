"""`python -m jobs.evaluate`: how well searches rank, measured on a judged set with the code that serves them."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jobs.beir import Dataset, read_dataset
from jobs.ir_metrics import MEASURES, mean_measures, measure
from jobs.progress import LINE_PERIOD_S
from serve_app.cache.tiered import Tiered
from serve_app.documents.indexing import FailedDocument, Indexer
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError
from serve_app.search.release import Release
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.search.service import Searcher
from serve_app.settings import Settings, load_settings
from serve_app.store.edge import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import LOCAL_PRINCIPAL

T = TypeVar("T")
Rankings = dict[str, list[str]]  # query id → document ids, best first
Advance = Callable[[str, int, int], None]  # step, done, of how many

FAILED, USAGE = 1, 2
COLLECTION = "evaluation"
SLICE_DOCUMENTS = 64
SLICE_QUERIES = 32
DEPTH = max(k for _, k in MEASURES.values())

EXAMPLES = """\b
Examples:
  python -m jobs.evaluate --dataset ../shared/data/cranfield
  python -m jobs.evaluate --dataset scifact --json per-query.jsonl
  AIDOCS_SEARCH__PROFILES__RRF='{"fusion": "rrf"}' python -m jobs.evaluate --dataset nfcorpus --profile rrf

The dataset is a BEIR folder: corpus.jsonl, queries.jsonl (each may be .gz), qrels/SPLIT.tsv. It is indexed into a
temporary store, which is taken away afterwards; a document ranks by its best passage.

The last line of stdout is JSON: {"dense": {"ndcg@10", "recall@100", "mrr@10"}, "sparse": ..., "hybrid": ...}, each
the mean over the queries that have a relevant document. Exit code: 0 done, 1 failed, 2 wrong use or a bad dataset."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


@cli.command(epilog=EXAMPLES)
def evaluate(
    dataset: Annotated[Path, typer.Option(help="BEIR folder.")],
    split: Annotated[str, typer.Option(help="Judgements to use: qrels/SPLIT.tsv.")] = "test",
    profile: Annotated[str | None, typer.Option(help="Search profile.", show_default="the default one")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write measures and ranking of every query here, as JSON lines.")
    ] = None,
) -> None:
    """Index a judged set, run its queries in every mode, print how well they rank."""
    try:
        settings = load_settings()
        if profile and profile not in settings.search.profiles:
            raise InvalidInput(f"no search profile {profile!r}; there are: {', '.join(settings.search.profiles)}")
        judged = read_dataset(dataset, split)
        if json_file:
            require_writable(json_file)
    except (InvalidInput, ConfigurationError) as error:
        fail(error, USAGE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the store's folder goes too
    try:
        with Steps() as steps:
            rankings, failed = asyncio.run(rank(judged, settings, profile, steps.advance))
    except PlatformError as error:
        fail(error, FAILED)
    if failed:
        errors.print(Text(f"{len(failed)} documents could not be indexed: {failed[0].id}: {failed[0].error} ..."))
    scores = {mode: score(judged, found) for mode, found in rankings.items()}
    if json_file:
        write_per_query(json_file, judged, rankings, scores)
    means = {mode: mean_measures(per_query.values()) for mode, per_query in scores.items()}
    Console(highlight=False).print(table(judged, means))
    print(json.dumps({mode: {name: round(value, 4) for name, value in row.items()} for mode, row in means.items()}))


def fail(error: PlatformError, code: int) -> NoReturn:
    errors.print(Text(f"error: {error}"))
    raise typer.Exit(code) from error


async def rank(
    judged: Dataset, settings: Settings, profile: str | None, advance: Advance
) -> tuple[dict[str, Rankings], list[FailedDocument]]:
    """For each mode the first DEPTH documents of each query, and what could not be indexed (and so not be found)."""
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    embedder, sparse = LocalEmbedder(engine), Bm25SparseEncoder()
    with tempfile.TemporaryDirectory(prefix="ai-docs-evaluate-") as folder:
        store = EdgeStore.open(Path(folder), settings.store)
        try:
            indexer = Indexer(
                tokenizer=engine.tokenizer,
                chunking=settings.chunking,
                embedder=embedder,
                sparse=sparse,
                store=store,
            )
            searcher = Searcher(
                embedder=embedder,
                sparse=sparse,
                store=store,
                search=settings.search,
                batching=settings.batching,
                release=Release.of(settings, engine.space, engine.precision).name,
                cache=Tiered(()),  # each question is asked once
            )
            failed = await index(indexer, judged, advance)
            return {mode.value: await search(searcher, judged, mode, profile, advance) for mode in MODES}, failed
        finally:
            await store.close()
            embedder.close()


MODES = (SearchMode.DENSE, SearchMode.SPARSE, SearchMode.HYBRID)


async def index(indexer: Indexer, judged: Dataset, advance: Advance) -> list[FailedDocument]:
    failed: list[FailedDocument] = []
    done = 0
    for some in slices(judged.documents, SLICE_DOCUMENTS):
        report = await indexer.index(LOCAL_PRINCIPAL.scope(COLLECTION), some)
        failed.extend(report.failed)
        done += len(some)
        advance("indexing", done, len(judged.documents))
    return failed


async def search(
    searcher: Searcher, judged: Dataset, mode: SearchMode, profile: str | None, advance: Advance
) -> Rankings:
    """Raises the error of the first search that fails: a mean over the rest would be no measurement."""
    rankings: Rankings = {}
    for some in slices(list(judged.queries.items()), SLICE_QUERIES):
        requests = [
            SearchRequest(COLLECTION, text, limit=DEPTH, mode=mode, group_by="document_id", profile=profile)
            for _, text in some
        ]
        answers = await searcher.search_batch(LOCAL_PRINCIPAL, requests)
        for (query, _), answer in zip(some, answers, strict=True):
            if isinstance(answer, PlatformError):
                raise answer
            rankings[query] = [hit.document_id for hit in answer.found.hits]
        advance(f"searching, {mode.value}", len(rankings), len(judged.queries))
    return rankings


def slices(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def score(judged: Dataset, rankings: Rankings) -> dict[str, dict[str, float]]:
    return {query: measure(rankings[query], grades) for query, grades in judged.judgements.items()}


def require_writable(path: Path) -> None:
    """Before the work, and without loss of what is there. Raises InvalidInput."""
    try:
        path.open("a").close()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def write_per_query(
    path: Path, judged: Dataset, rankings: dict[str, Rankings], scores: dict[str, dict[str, dict[str, float]]]
) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for mode, per_query in scores.items():
            for query, values in per_query.items():
                row = {"mode": mode, "query": query, "text": judged.queries[query], **values}
                lines.write(json.dumps({**row, "ranking": rankings[mode][query]}, ensure_ascii=False) + "\n")


def table(judged: Dataset, means: dict[str, dict[str, float]]) -> Table:
    caption = f"{judged.name}: {len(judged.documents):,} documents, {len(judged.queries):,} queries"
    rows = Table("mode", *MEASURES, title=caption, title_justify="left")
    for mode, values in means.items():
        rows.add_row(mode, *(f"{values[name]:.4f}" for name in MEASURES))
    return rows


class Steps:
    """A bar for each step on a terminal, a line every few seconds and at each step's end elsewhere. Use as a
    context."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._line_at_s = time.monotonic()

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step)
        self._progress.update(self._tasks[step], completed=done, total=total)
        if not errors.is_terminal and (done == total or time.monotonic() - self._line_at_s >= LINE_PERIOD_S):
            self._line_at_s = time.monotonic()
            errors.print(f"{step}: {done:,} of {total:,}")


if __name__ == "__main__":
    cli()
