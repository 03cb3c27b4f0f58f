"""Announces the ids of a source's documents to the ledger before reading begins.

Several files may hold a document of the same id. The first file's document is kept, and not the one that happens to be
read first: even a single reader's calls may run in another order, because Ray Data allows its actors to reorder them.

Only files with rows, such as JSON lines, name ids. They are parsed twice, which costs a part of what reading and
cutting them takes (docs/performance.md). A file that is one document has its path as id. It is read here only if some
row has that id. If a file changes between its two readings, a row of another file may be refused for an id that the
changed file no longer has; the next run indexes that row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial

from jobs.parallel.map import map_items
from jobs.parallel.task import Task, TaskProfile
from jobs.pipeline.claims import Claim
from jobs.pipeline.inputs import Input, read_input
from jobs.pipeline.ledger import RunLedger
from jobs.runtime.slices import slices
from serve_app.documents.reading import has_rows
from serve_app.documents.reading_process import ReadingProcess
from serve_app.types import Document

CLAIMS_AT_ONCE = 4_096

reading_process = cache(ReadingProcess)  # one in each worker, for all of its calls


def announce_all(parts: Sequence[Sequence[Input]], ledger: RunLedger, *, at_once: int, cpus: float) -> None:
    """parts: of the source, one for each call of that many CPUs. Raises what reading or Ray raised."""
    rows = [some for part in parts if (some := [each for each in part if has_rows(each.path)])]
    pages = [some for part in parts if (some := [each for each in part if not has_rows(each.path)])]
    if len(parts) > 1 and rows:
        for function, inputs in ((announce, rows), (announce_pages, pages)):
            task = Task(partial(function, ledger=ledger), TaskProfile.CPU, cpus=cpus)
            for _ in map_items(task, inputs, at_once=at_once):
                pass  # what it announced is in the ledger


def announce(inputs: Sequence[Input], ledger: RunLedger) -> None:
    for some in slices(claims_of(inputs), CLAIMS_AT_ONCE):
        ledger.announce(some)


def announce_pages(inputs: Sequence[Input], ledger: RunLedger) -> None:
    """Announces the files that are one document, can be read, and share their id with a row."""
    pages = {id: each for each in inputs if (id := each.only_document)}
    shared = ledger.known([*pages]) if pages else []
    announce([pages[id] for id in shared], ledger)


def claims_of(inputs: Sequence[Input]) -> Iterator[Claim]:
    for source in inputs:
        for result in read_input(source, reading_process()):
            if isinstance(result, Document) and (not source.only or result.id in source.only):
                yield Claim(result.id, source.name, source.place)
