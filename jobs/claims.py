"""Whose document is kept where inputs of a source share an id: that of the input which comes first in the source, in
whatever order they are read."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TABLES = """
PRAGMA journal_mode = OFF;  -- nobody reads it after a crash
CREATE TABLE owners (id TEXT PRIMARY KEY, input TEXT, place INTEGER) WITHOUT ROWID;
CREATE TABLE verdicts (id TEXT, input TEXT, loser TEXT, PRIMARY KEY (id, input)) WITHOUT ROWID;  -- of shared ids alone
CREATE TABLE failed (id TEXT PRIMARY KEY) WITHOUT ROWID;
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

    def settle(self, claims: Sequence[Claim]) -> list[str | None]:
        """For each claim the input whose document is not kept for it: none where the claim is the first of its id, its
        own, or a later one's, which was read before and may be stored by now (see `taken_over`).

        A claim that comes again, as that of a repeated task, gets the same answer. Claims of an id are of different
        inputs."""
        with self._ids:
            return [self._settled(claim) for claim in claims]

    def taken_over(self) -> dict[str, list[str]]:
        """Ids of which a later input's document went through the stages, by the input that has them first."""
        found: dict[str, list[str]] = {}
        for input, id in self._ids.execute(
            "SELECT owners.input, owners.id FROM verdicts JOIN owners USING (id, input) WHERE loser != owners.input"
        ):
            found.setdefault(input, []).append(id)
        return found

    def fail(self, ids: Iterable[str]) -> None:
        """Of documents that failed, which may have been before they could claim."""
        with self._ids:
            self._ids.executemany("INSERT OR IGNORE INTO failed VALUES (?)", ((id,) for id in ids))

    def knows(self, id: str) -> bool:
        return self._ids.execute(KNOWN, {"id": id}).fetchone() is not None

    def _settled(self, claim: Claim) -> str | None:
        owner = self._ids.execute("SELECT input, place FROM owners WHERE id = ?", (claim.id,)).fetchone()
        if owner is None:
            self._ids.execute("INSERT INTO owners VALUES (?, ?, ?)", (claim.id, claim.input, claim.place))
            return None
        input, place = owner
        verdict = self._ids.execute("SELECT loser FROM verdicts WHERE id = ? AND input = ?", (claim.id, claim.input))
        if (former := verdict.fetchone()) is not None or input == claim.input:
            return former[0] if former else None
        loser = input if claim.place < place else claim.input
        if loser == input:
            self._judge(claim.id, input, None)  # as it was told, unless it took over itself
            self._ids.execute(
                "UPDATE owners SET input = ?, place = ? WHERE id = ?", (claim.input, claim.place, claim.id)
            )
        self._judge(claim.id, claim.input, loser)
        return loser

    def _judge(self, id: str, input: str, loser: str | None) -> None:
        self._ids.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", (id, input, loser))
