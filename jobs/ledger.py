"""What an indexing run has done so far. Stages report to one Ledger, which the driver reads out."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from jobs.rows import Outcome, Row

DUPLICATE = "an earlier document has the same id: give each its own, for only the first is kept"


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


def report_of(rows: Iterable[Row]) -> Report:
    """Rows at the end of the pipeline; those to INDEX have been written."""
    rows = list(rows)
    by_outcome = {outcome: [row for row in rows if row.outcome is outcome] for outcome in Outcome}
    indexed, failed = by_outcome[Outcome.INDEX], by_outcome[Outcome.FAILED]
    return Report(
        indexed=len(indexed),
        replaced=sum(row.replaces for row in indexed),
        passages=sum(len(row.passages) for row in indexed),
        embedded=sum(row.embedded for row in indexed),
        unchanged=len(by_outcome[Outcome.UNCHANGED]),
        failed=len(failed),
        unnamed=sum(not row.document_id for row in failed),
        source_bytes=sum(row.source_bytes for row in rows),
        announced=sum(row.source_documents for row in rows),
        dead_letters=tuple(DeadLetter(row.source, row.document_id, row.error, row.input) for row in failed),
    )


class Ledger:
    """Runs as an actor. A task may write twice; it counts once.

    Document ids go to a file of SQLite's own, which ends with the actor: in memory they would be 200 bytes each."""

    def __init__(self) -> None:
        self._news = Report()
        self._tasks: set[str] = set()  # ids, seen; one for each block
        self._ids = sqlite3.connect("", check_same_thread=False)
        self._ids.executescript(
            "PRAGMA journal_mode = OFF;"  # nobody reads it after a crash
            "CREATE TABLE owners (id TEXT PRIMARY KEY, input TEXT) WITHOUT ROWID;"
            "CREATE TABLE failed (id TEXT PRIMARY KEY) WITHOUT ROWID;"
        )
        weakref.finalize(self, self._ids.close)  # no __del__, which Ray would call of its own class for actors, too

    def written(self, task: str, report: Report) -> None:
        if task not in self._tasks:
            self._tasks.add(task)
            self._news = self._news + report
            named = ((letter.document_id,) for letter in report.dead_letters if letter.document_id)
            with self._ids:
                self._ids.executemany("INSERT OR IGNORE INTO failed VALUES (?)", named)

    def claim(self, ids: Sequence[tuple[str, str]]) -> list[bool]:
        """ids: each with its input. Whether that input had it first. An input may claim again what is its own: its
        read task may be repeated."""
        with self._ids:
            self._ids.executemany("INSERT OR IGNORE INTO owners (input, id) VALUES (?, ?)", ids)
        owners = (self._ids.execute("SELECT input FROM owners WHERE id = ?", (id,)) for _, id in ids)
        return [owner.fetchone() == (input,) for owner, (input, _) in zip(owners, ids, strict=True)]

    def moved(self, ids: Sequence[str]) -> None:
        self._news += Report(moved=tuple(ids))

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that the inputs did not have, not even one that failed."""
        known = "SELECT 1 FROM owners WHERE id = :id UNION ALL SELECT 1 FROM failed WHERE id = :id"
        return [id for id in ids if self._ids.execute(known, {"id": id}).fetchone() is None]

    def take(self) -> Report:
        """What came since the last call."""
        news, self._news = self._news, Report()
        return news
