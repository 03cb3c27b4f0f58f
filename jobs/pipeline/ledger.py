"""What an indexing run has done so far. Stages report to one ledger, which the driver reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import ray

from jobs.pipeline.claims import Claim, Claims
from jobs.pipeline.rows import PipelineRow, RowOutcome

DUPLICATE = (
    "an earlier document has the same id, and only the first is kept: give each its own, or index the whole source "
    "again if the first has gone"
)
LEDGER_TIMEOUT_S = 60.0  # for one call, by a stage or the driver


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document or a file which could not be indexed, and why. source: where, for people; input: the whole file's
    name. document_id is "" where there is no document yet, and it cannot be told which there would be."""

    source: str
    document_id: str
    error: str
    input: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Every document read is counted in exactly one of indexed, unchanged and failed.

    replaced: of those indexed, had another version in the store. passages: of those indexed; embedded: those of them
    whose text no stored version had. unnamed: of the failed, have no document id. deleted: were in the store and not in
    the source. dead_letters: of the failed, where they have not been put elsewhere. source_bytes: of the input, gone
    through. announced: documents which the inputs that were read to their ends said they had.
    """

    indexed: int = 0
    replaced: int = 0
    passages: int = 0
    embedded: int = 0
    unchanged: int = 0
    failed: int = 0
    unnamed: int = 0
    deleted: int = 0
    source_bytes: int = 0
    announced: int = 0
    dead_letters: tuple[DeadLetter, ...] = ()
    moved: tuple[str, ...] = ()

    @property
    def documents(self) -> int:
        return self.indexed + self.unchanged + self.failed

    def __add__(self, other: Report) -> Report:
        return Report(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def report_of(rows: Iterable[PipelineRow]) -> Report:
    """Rows at the end of the pipeline; those to INDEX have been written."""
    rows = list(rows)
    by_outcome = {outcome: [row for row in rows if row.outcome is outcome] for outcome in RowOutcome}
    indexed, failed = by_outcome[RowOutcome.INDEX], by_outcome[RowOutcome.FAILED]
    return Report(
        indexed=len(indexed),
        replaced=sum(row.replaces for row in indexed),
        passages=sum(len(row.passages) for row in indexed),
        embedded=sum(row.embedded for row in indexed),
        unchanged=len(by_outcome[RowOutcome.UNCHANGED]),
        failed=len(failed),
        unnamed=sum(not row.document_id for row in failed),
        source_bytes=sum(row.source_bytes for row in rows),
        announced=sum(row.source_documents for row in rows),
        dead_letters=tuple(DeadLetter(row.source, row.document_id, row.error, row.input) for row in failed),
    )


class Ledger:
    """Thread-safe. A task may write twice; it counts once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = Report()
        self._tasks: set[str] = set()  # ids, seen; one for each block
        self._claims = Claims()

    def written(self, task: str, report: Report) -> None:
        with self._lock:
            if task not in self._tasks:
                self._tasks.add(task)
                self._news += report
                self._claims.fail(letter.document_id for letter in report.dead_letters if letter.document_id)

    def announce(self, claims: Sequence[Claim]) -> None:
        self._claims.announce(claims)

    def claim(self, claims: Sequence[Claim]) -> list[bool]:
        return self._claims.claim(claims)

    def moved(self, ids: Sequence[str]) -> None:
        with self._lock:
            self._news += Report(moved=tuple(ids))

    def known(self, ids: Sequence[str]) -> list[str]:
        return [id for id in ids if self._claims.knows(id)]

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that the inputs did not have, not even one that failed."""
        return [id for id in ids if not self._claims.knows(id)]

    def take(self) -> Report:
        """What came since the last call."""
        with self._lock:
            news, self._news = self._news, Report()
        return news


class LedgerClient:
    """A Ledger that runs as an actor. A handle of it may be sent to any process of the cluster."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def written(self, task: str, report: Report) -> None:
        self._call("written", task, report)

    def announce(self, claims: Sequence[Claim]) -> None:
        self._call("announce", claims)

    def claim(self, claims: Sequence[Claim]) -> list[bool]:
        return self._call("claim", claims)

    def moved(self, ids: Sequence[str]) -> None:
        self._call("moved", ids)

    def known(self, ids: Sequence[str]) -> list[str]:
        return self._call("known", ids)

    def absent(self, ids: Sequence[str]) -> list[str]:
        return self._call("absent", ids)

    def take(self) -> Report:
        return self._call("take")

    def _call(self, method: str, *arguments: Any) -> Any:
        """Raises RayError if the actor does not answer in LEDGER_TIMEOUT_S."""
        return ray.get(getattr(self._actor, method).remote(*arguments), timeout=LEDGER_TIMEOUT_S)


RunLedger = Ledger | LedgerClient
