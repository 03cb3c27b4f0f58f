"""Which state of a collection an answer belongs to, seen by every process of the machine without a call.

A cached answer is kept under the version that was current before it was computed. The store's owner advances the
version when a write can be seen and before it is acknowledged, so an answer that a write made stale is found no more.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import time
from functools import lru_cache
from pathlib import Path

from serve_app.types import Scope

SLOTS = 4_096
FILE = ".versions"  # no tenant's name
WORD_BYTES = 8


class VersionCounters:
    """The owner's side: counters in a memory-mapped file, and a number for each start of the owner, so that what a
    crash left without a count is a new version too.

    Scopes share SLOTS counters by hash: a write to one may look like a write to another, never the other way round.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        path = folder / FILE
        path.touch()
        with path.open("r+b") as file:
            content = file.read().ljust((1 + SLOTS) * WORD_BYTES, b"\0")
            file.seek(0)
            file.write(content)  # all of it, for a hole in a mapped file ends the process where the disk is full
            file.flush()
            self._words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self._words[0] = time.time_ns()
        self._lock = threading.Lock()

    def advance(self, scope: Scope) -> None:
        with self._lock:
            self._words[slot(scope)] += 1

    def current(self, scope: Scope) -> bytes:
        return version(self._words, scope)


class VersionReader:
    """Any other process's side."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._inode = -1

    def current(self, scope: Scope) -> bytes | None:
        """None while there is no such file: the store has not been opened yet."""
        try:
            if os.stat(self._path).st_ino != self._inode:  # noqa: PTH116 (half the time of Path.stat)
                self._open()
        except FileNotFoundError:
            return None
        return version(self._words, scope)

    def _open(self) -> None:
        with self._path.open("rb") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("Q")
            self._inode = os.fstat(file.fileno()).st_ino


def version(words: memoryview, scope: Scope) -> bytes:
    """Of a collection 16 bytes. Of an index by name 24, for it changes with its collection as well: a write to the
    active index is counted there. An aligned word is read and written in one step."""
    word = int(words[slot(scope)]).to_bytes(WORD_BYTES)
    return version(words, scope.at("")) + word if scope.index else int(words[0]).to_bytes(WORD_BYTES) + word


@lru_cache(SLOTS)
def slot(scope: Scope) -> int:
    digest = hashlib.blake2b(
        f"{scope.tenant}/{scope.collection}/{scope.index}".encode(), digest_size=WORD_BYTES
    ).digest()
    return 1 + int.from_bytes(digest) % SLOTS
