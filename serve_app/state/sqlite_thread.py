"""One SQLite connection in its own thread, with a timeout for each call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from serve_app.errors import StateUnavailable

QUEUE_RATIO = 0.5  # fraction of the timeout that a call may wait behind other calls
BUSY_RATIO = 0.8  # fraction of the remaining time that SQLite waits for a lock, so it gives up before the caller
WAL_RETRY_S = 0.01
Out = TypeVar("Out")


class SqliteThread:
    """The first call opens the file. After a call that failed, the next call opens it again. schema: statements that
    set up a file without the table `marker`, run in one transaction."""

    def __init__(self, path: Path, schema: str, marker: str, timeout_s: float) -> None:
        self._path = path
        self._schema = schema
        self._marker = marker
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(1, "state")
        self._connection: sqlite3.Connection | None = None

    async def run(self, call: Callable[[sqlite3.Connection], Out]) -> Out:
        """Run the call in the thread. Raises StateUnavailable."""
        try:
            future = self._executor.submit(self._run, call, time.monotonic() + self._timeout_s)
        except RuntimeError as error:
            raise StateUnavailable(f"the state in {self._path} is closed") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise StateUnavailable(
                f"the state in {self._path} did not answer within {self._timeout_s:g} s; "
                "a change may or may not have been made"
            ) from error

    async def close(self) -> None:
        with contextlib.suppress(RuntimeError, TimeoutError):  # already closed, or a call hangs
            async with asyncio.timeout(self._timeout_s):
                await asyncio.wrap_future(self._executor.submit(self._disconnect))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, call: Callable[[sqlite3.Connection], Out], deadline_s: float) -> Out:
        left_s = deadline_s - time.monotonic()
        if left_s < (1 - QUEUE_RATIO) * self._timeout_s:
            raise StateUnavailable(f"the state in {self._path} has too many calls waiting; nothing was changed")
        busy_s = BUSY_RATIO * left_s
        try:
            if self._connection is None:
                self._connection = self._open(busy_s)
            self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * busy_s)}")
            return call(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StateUnavailable(f"the state in {self._path} cannot be used: {error}") from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, busy_s: float) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's other files inherit the permissions
        connection = sqlite3.connect(self._path, timeout=busy_s, isolation_level=None)
        try:
            use_wal(connection, busy_s)
            connection.execute("PRAGMA synchronous = FULL")
            if not self._has_schema(connection):
                self._create_schema(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_schema(self, connection: sqlite3.Connection) -> None:
        with exclusive(connection):
            if not self._has_schema(connection):  # another process was faster
                for statement in filter(str.strip, self._schema.split(";")):
                    connection.execute(statement)

    def _has_schema(self, connection: sqlite3.Connection) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return connection.execute(query, (self._marker,)).fetchone() is not None


def use_wal(connection: sqlite3.Connection, patience_s: float) -> None:
    """Switch the file to WAL mode. Retries, because SQLite does not wait for its lock when several processes switch a
    new file at once."""
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(WAL_RETRY_S)


@contextlib.contextmanager
def exclusive(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that excludes other writers from its begin."""
    with _transaction(connection, "BEGIN IMMEDIATE"):
        yield


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction whose reads all see the same state."""
    with _transaction(connection, "BEGIN"):
        yield


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
