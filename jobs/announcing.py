"""Before several readers begin: all ids of the source go to the ledger, so that where files share one, the first file's
document is kept and not that of whoever is read first.

Only rows of files such as JSON lines name their ids. These are parsed twice then, a fifth of what reading and cutting
them takes (tests/bench/NOTES.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from jobs.claims import Claim
from jobs.inputs import Input, read_input
from jobs.parallel.run import run
from jobs.parallel.task import Task
from jobs.slices import slices
from serve_app.documents.reading import has_rows
from serve_app.documents.reading_process import ReadingProcess
from serve_app.types import Document

CLAIMS_AT_ONCE = 4_096
LEDGER_TIMEOUT_S = 60.0


def announce_all(parts: Sequence[Sequence[Input]], ledger: Any) -> None:
    """parts: of the source, each for one task. Raises what reading or the ledger raised."""
    inputs = [each for part in parts for each in part]
    if len(inputs) > 1 and any(has_rows(each.path) for each in inputs):
        for outcome in run([Task(str(number), announce, (part, ledger)) for number, part in enumerate(parts)]):
            outcome.result()


def announce(inputs: Sequence[Input], ledger: Any) -> None:
    reader = ReadingProcess()
    try:
        for some in slices(claims_of(inputs, reader), CLAIMS_AT_ONCE):
            ray.get(ledger.announce.remote(some), timeout=LEDGER_TIMEOUT_S)
    finally:
        reader.close()


def claims_of(inputs: Sequence[Input], reader: ReadingProcess) -> Iterator[Claim]:
    for source in inputs:
        for id in ids_of(source, reader):
            if not source.only or id in source.only:
                yield Claim(id, source.name, source.place)


def ids_of(source: Input, reader: ReadingProcess) -> Iterator[str]:
    """A file that is one document is not read for its name."""
    if source.only_document:
        yield source.only_document
        return
    for result in read_input(source, reader):
        if isinstance(result, Document):
            yield result.id
