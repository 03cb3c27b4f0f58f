"""Before reading begins: ids of the source go to the ledger, so that where files share one, the first file's document
is kept and not that of whichever is read first. Even one reader's calls may be done in another order: Ray Data lets its
actors do so.

Only rows of files such as JSON lines name their ids. These are parsed twice then, a part of what reading and cutting
them takes (tests/bench/NOTES.md). A file that is one document has its path for an id; it is read for this only
where a row has that id, too. If a file changes between its two readings, rows of others may be refused for an id that
it has no more; the next run takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayError

from jobs.pipeline.claims import Claim
from jobs.pipeline.inputs import Input, read_input
from jobs.pipeline.ledger import LEDGER_TIMEOUT_S
from jobs.runtime.slices import slices
from serve_app.documents.reading import has_rows
from serve_app.documents.reading_process import ReadingProcess
from serve_app.types import Document

CLAIMS_AT_ONCE = 4_096

reading_process = cache(ReadingProcess)  # of a worker, for all of its tasks


def announce_all(parts: Sequence[Sequence[Input]], ledger: Any, *, at_once: int, cpus: float) -> None:
    """parts: of the source, each for one task of so many CPUs. Raises what reading or Ray raised."""
    rows = [some for part in parts if (some := [each for each in part if has_rows(each.path)])]
    pages = [some for part in parts if (some := [each for each in part if not has_rows(each.path)])]
    if len(parts) > 1 and rows:
        in_tasks(announce, rows, ledger, at_once, cpus)
        in_tasks(announce_pages, pages, ledger, at_once, cpus)


def in_tasks(
    call: Callable[[Sequence[Input], Any], None],
    parts: Sequence[Sequence[Input]],
    ledger: Any,
    at_once: int,
    cpus: float,
) -> None:
    """Ends what runs still where one fails, or at Ctrl-C."""
    task = ray.remote(num_cpus=cpus)(call)
    running: list[Any] = []
    try:
        for part in parts:
            if len(running) == at_once:
                done, running = ray.wait(running)
                ray.get(done)
            running.append(task.remote(part, ledger))
        ray.get(running)
    except BaseException:
        for each in running:
            with suppress(RayError):  # the first error is raised
                ray.cancel(each, force=True)
        raise


def announce(inputs: Sequence[Input], ledger: Any) -> None:
    for some in slices(claims_of(inputs), CLAIMS_AT_ONCE):
        ray.get(ledger.announce.remote(some), timeout=LEDGER_TIMEOUT_S)


def announce_pages(inputs: Sequence[Input], ledger: Any) -> None:
    """Of the files that are one document those whose id rows have, if they can be read."""
    pages = {id: each for each in inputs if (id := each.only_document)}
    shared = ray.get(ledger.known.remote([*pages]), timeout=LEDGER_TIMEOUT_S) if pages else []
    announce([pages[id] for id in shared], ledger)


def claims_of(inputs: Sequence[Input]) -> Iterator[Claim]:
    for source in inputs:
        for result in read_input(source, reading_process()):
            if isinstance(result, Document) and (not source.only or result.id in source.only):
                yield Claim(result.id, source.name, source.place)
