"""Which input of a source has each document id: the one that comes first in the source."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TABLES = """
PRAGMA journal_mode = OFF;  -- nobody reads it after a crash
CREATE TABLE owners (id TEXT PRIMARY KEY, input TEXT, place INTEGER) WITHOUT ROWID;
CREATE TABLE failed (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
ANNOUNCE = """
INSERT INTO owners VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET input = excluded.input, place = excluded.place WHERE excluded.place < place
"""
KNOWN = "SELECT 1 FROM owners WHERE id = :id UNION ALL SELECT 1 FROM failed WHERE id = :id"


@dataclass(frozen=True, slots=True)
class Claim:
    """An input that has a document of that id. place: of the input in the source."""

    id: str
    input: str
    place: int


class Claims:
    """Of one run. Ids go to a file of SQLite's own, which ends with this: in memory they would be 200 bytes each."""

    def __init__(self) -> None:
        self._ids = sqlite3.connect("", check_same_thread=False)
        self._ids.executescript(TABLES)
        weakref.finalize(self, self._ids.close)

    def announce(self, claims: Sequence[Claim]) -> None:
        """Before anything is claimed, in any order, as often as one likes."""
        with self._ids:
            self._ids.executemany(ANNOUNCE, ((claim.id, claim.input, claim.place) for claim in claims))

    def claim(self, claims: Sequence[Claim]) -> list[bool]:
        """Whether that input has it: as announced, else whoever comes first. An input may claim again what is its own:
        its read task may be repeated."""
        with self._ids:
            self._ids.executemany(
                "INSERT OR IGNORE INTO owners VALUES (?, ?, ?)", ((each.id, each.input, each.place) for each in claims)
            )
        owners = (self._ids.execute("SELECT input FROM owners WHERE id = ?", (claim.id,)) for claim in claims)
        return [owner.fetchone() == (claim.input,) for owner, claim in zip(owners, claims, strict=True)]

    def fail(self, ids: Iterable[str]) -> None:
        """Of documents that failed, which may have been before they could claim."""
        with self._ids:
            self._ids.executemany("INSERT OR IGNORE INTO failed VALUES (?)", ((id,) for id in ids))

    def knows(self, id: str) -> bool:
        return self._ids.execute(KNOWN, {"id": id}).fetchone() is not None
