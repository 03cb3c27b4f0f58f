"""What an indexing run has done so far. Stages report to one Ledger, which the driver reads out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jobs.rows import Outcome, Row


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document or a file which could not be indexed, and why. document_id is "" where there is no document yet."""

    source: str
    document_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """Every document read is counted in exactly one of indexed, unchanged and failed.

    passages: of those indexed. dead_letters: of the failed, where they have not been put elsewhere. source_bytes: of
    the input, gone through. announced: documents which the inputs that were read to their ends said they had.
    """

    indexed: int = 0
    passages: int = 0
    unchanged: int = 0
    failed: int = 0
    source_bytes: int = 0
    announced: int = 0
    dead_letters: tuple[DeadLetter, ...] = ()

    @property
    def documents(self) -> int:
        return self.indexed + self.unchanged + self.failed

    def __add__(self, other: Report) -> Report:
        return Report(
            self.indexed + other.indexed,
            self.passages + other.passages,
            self.unchanged + other.unchanged,
            self.failed + other.failed,
            self.source_bytes + other.source_bytes,
            self.announced + other.announced,
            self.dead_letters + other.dead_letters,
        )


def report_of(rows: Iterable[Row]) -> Report:
    """Rows at the end of the pipeline; those to INDEX have been written."""
    indexed = passages = unchanged = source_bytes = announced = 0
    letters = []
    for row in rows:
        source_bytes += row.source_bytes
        announced += row.source_documents
        match row.outcome:
            case Outcome.INDEX:
                indexed += 1
                passages += len(row.passages)
            case Outcome.UNCHANGED:
                unchanged += 1
            case Outcome.FAILED:
                letters.append(DeadLetter(row.source, row.document_id, row.error))
    return Report(indexed, passages, unchanged, len(letters), source_bytes, announced, tuple(letters))


@dataclass
class Ledger:
    """Runs as an actor. A write task may run twice; it counts once."""

    _news: Report = Report()
    _tasks: set[int] = field(default_factory=set)  # seen
    _owners: dict[str, str] = field(default_factory=dict)  # document id → source; some 200 bytes each

    def written(self, task: int, report: Report) -> None:
        if task not in self._tasks:
            self._tasks.add(task)
            self._news = self._news + report

    def claim(self, source: str, ids: Sequence[str]) -> list[str]:
        """Those of the ids that another source had first. A source may claim again what is its own: its read task
        may be repeated."""
        return [id for id in ids if self._owners.setdefault(id, source) != source]

    def take(self) -> Report:
        """What came since the last call."""
        news, self._news = self._news, Report()
        return news
