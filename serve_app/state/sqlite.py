"""State in one SQLite file, for processes of one machine.

The file is in WAL mode, so reads do not wait for writes. Each commit is flushed to the disk (`synchronous=FULL`), so an
acknowledged write survives `kill -9` and a power failure. The file must be on a local disk, because SQLite's locks and
shared memory do not work over NFS. While a process is stopped in the middle of a write, the writes of all other
processes raise StateUnavailable. After a restore from a backup, revisions continue from the backup's revision, so stop
every process that uses the state before you restore it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve_app.state.sqlite_thread import SqliteThread, exclusive, snapshot
from serve_app.state.store import (
    DELETIONS_KEPT,
    MAX_PAGE,
    ChangeFeed,
    Lease,
    Refusal,
    Refused,
    StateChange,
    StateEntry,
    Written,
    encoded_key,
    key_range,
    require_page,
    require_ttl,
    require_value,
)

TIMEOUT_S = 5.0  # for one call
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# A deleted key stays as a row without value, for the feed. `floor`: the feed reaches back to this revision.
SCHEMA = """
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB, version INTEGER NOT NULL UNIQUE);
CREATE INDEX deletions ON entries (version) WHERE value IS NULL;
CREATE TABLE leases (name BLOB PRIMARY KEY, token INTEGER NOT NULL, begins_s REAL NOT NULL, ends_s REAL NOT NULL);
CREATE TABLE counters (revision INTEGER NOT NULL, floor INTEGER NOT NULL);
INSERT INTO counters VALUES (1, 1);
"""


def seconds_since_boot() -> float:
    """A clock that all processes of the machine share and that no change of the date affects. On Linux it counts on
    while the machine sleeps. It restarts at a reboot; `lasts` says why that does no harm."""
    return time.clock_gettime(CLOCK)


def lasts(begins_s: float, ends_s: float, now_s: float) -> bool:
    """Whether a lease is still valid. If the clock is below `begins_s`, the machine has rebooted, and no holder
    survives a reboot. After a reboot, the lease of a dead holder can look valid again once the clock reaches
    `begins_s`, but never for longer than its time to live."""
    return begins_s <= now_s < ends_s


class SqliteState:
    """StateStore in the file `path`. The first call opens the file or creates it, readable by its owner only."""

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = TIMEOUT_S,
        deletions_kept: int = DELETIONS_KEPT,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._reads = SqliteThread(path, SCHEMA, "counters", timeout_s)
        self._writes = SqliteThread(path, SCHEMA, "counters", timeout_s)
        self._deletions_kept = deletions_kept
        self._clock = clock

    async def get(self, key: str) -> StateEntry | None:
        query, encoded = "SELECT value, version FROM entries WHERE key = ? AND value IS NOT NULL", encoded_key(key)
        found = await self._reads.run(lambda db: rows(db, query, encoded))
        return StateEntry(key, *found[0]) if found else None

    async def list_prefix(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE) -> list[StateEntry]:
        require_page(limit)
        query = (
            "SELECT key, value, version FROM entries WHERE key >= ? AND key > ? AND key < ? AND value IS NOT NULL "
            "ORDER BY key LIMIT ?"
        )
        bounds = key_range(prefix, after)
        found = await self._reads.run(lambda db: rows(db, query, *bounds, limit))
        return [StateEntry(key.decode(), value, version) for key, value, version in found]

    async def compare_and_set(
        self, key: str, value: bytes, *, expected: int | None, fence: Lease | None = None
    ) -> Written | Refused:
        require_value(value)
        encoded = encoded_key(key)
        return await self._writes.run(lambda db: self._write(db, encoded, value, expected, fence))

    async def delete(self, key: str, *, expected: int, fence: Lease | None = None) -> Written | Refused:
        encoded = encoded_key(key)
        return await self._writes.run(lambda db: self._write(db, encoded, None, expected, fence))

    async def changes(self, since: int, *, limit: int = MAX_PAGE) -> ChangeFeed:
        require_page(limit)
        return await self._reads.run(lambda db: feed(db, since, limit))

    async def acquire(self, name: str, ttl_s: float) -> Lease | None:
        require_ttl(ttl_s)
        encoded = encoded_key(name)
        token = await self._writes.run(lambda db: self._acquire(db, encoded, ttl_s))
        return None if token is None else Lease(name, token, ttl_s)

    async def renew(self, lease: Lease) -> bool:
        return await self._writes.run(lambda db: self._extend(db, lease, lease.ttl_s))

    async def release(self, lease: Lease) -> bool:
        return await self._writes.run(lambda db: self._extend(db, lease, 0.0))

    async def close(self) -> None:
        await self._reads.close()
        await self._writes.close()

    def _write(
        self, db: sqlite3.Connection, key: bytes, value: bytes | None, expected: int | None, fence: Lease | None
    ) -> Written | Refused:
        with exclusive(db):
            if fence is not None and not self._is_held(db, fence):
                return Refused(Refusal.LEASE)
            found = rows(db, "SELECT version FROM entries WHERE key = ? AND value IS NOT NULL", key)
            if (found[0][0] if found else None) != expected:
                return Refused(Refusal.VERSION)
            version = next_revision(db)
            db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (key, value, version))
            if value is None:
                self._forget_deletions(db)
        return Written(version)

    def _forget_deletions(self, db: sqlite3.Connection) -> None:
        query = "SELECT version FROM entries WHERE value IS NULL ORDER BY version DESC LIMIT 1 OFFSET ?"
        for (version,) in rows(db, query, self._deletions_kept):
            db.execute("DELETE FROM entries WHERE value IS NULL AND version <= ?", (version,))
            db.execute("UPDATE counters SET floor = ?", (version,))

    def _acquire(self, db: sqlite3.Connection, name: bytes, ttl_s: float) -> int | None:
        with exclusive(db):
            now_s = self._clock()  # read under the lock, so no other call comes between
            found = rows(db, "SELECT begins_s, ends_s FROM leases WHERE name = ?", name)
            if any(lasts(begins_s, ends_s, now_s) for begins_s, ends_s in found):
                return None
            token = next_revision(db)
            db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (name, token, now_s, now_s + ttl_s))
        return token

    def _extend(self, db: sqlite3.Connection, lease: Lease, ttl_s: float) -> bool:
        """Whether the lease was still held. ttl_s: from now; 0 ends the lease."""
        with exclusive(db):
            is_held, now_s = self._is_held(db, lease), self._clock()
            if is_held:
                update = "UPDATE leases SET begins_s = ?, ends_s = ? WHERE token = ?"
                db.execute(update, (now_s, now_s + ttl_s, lease.token))
        return is_held

    def _is_held(self, db: sqlite3.Connection, lease: Lease) -> bool:
        query = "SELECT begins_s, ends_s FROM leases WHERE name = ? AND token = ?"
        found = rows(db, query, encoded_key(lease.name), lease.token)
        return any(lasts(begins_s, ends_s, self._clock()) for begins_s, ends_s in found)


def feed(db: sqlite3.Connection, since: int, limit: int) -> ChangeFeed:
    with snapshot(db):
        ((revision, floor),) = rows(db, "SELECT revision, floor FROM counters")
        if not floor <= since <= revision:
            return ChangeFeed((), revision, is_gap=True)
        query = "SELECT key, value, version FROM entries WHERE version > ? ORDER BY version LIMIT ?"
        found = rows(db, query, since, limit)
    changes = tuple(StateChange(key.decode(), value, version) for key, value, version in found)
    return ChangeFeed(changes, changes[-1].version if len(found) == limit else revision, is_gap=False)


def next_revision(db: sqlite3.Connection) -> int:
    return int(rows(db, "UPDATE counters SET revision = revision + 1 RETURNING revision")[0][0])


def rows(db: sqlite3.Connection, query: str, *values: object) -> list[Any]:
    return db.execute(query, values).fetchall()
