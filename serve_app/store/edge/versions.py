"""Version counters of collections, which every process of the machine can read without a call.

A cached result is stored under the version that was current before it was computed. The store's owner advances the
version after a write becomes visible and before it is acknowledged, so a stale result is never found.
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
FILE = ".versions"  # not a valid name of a tenant
WORD_BYTES = 8


class VersionCounters:
    """The owner's side: counters in a memory-mapped file. The version includes the time at which the owner started, so
    every version is new after a crash that may have left a write uncounted.

    Scopes share SLOTS counters by hash. So a change of one scope may advance the version of another, but it always
    advances its own.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        path = folder / FILE
        path.touch()
        with path.open("r+b") as file:
            content = file.read().ljust((1 + SLOTS) * WORD_BYTES, b"\0")
            file.seek(0)
            file.write(content)  # all of it: on a full disk, a write to a hole in a mapped file ends the process
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
    """The side of all other processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._inode = -1

    def current(self, scope: Scope) -> bytes | None:
        """The version. None if the file does not exist, because the store has not been opened yet."""
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
    """16 bytes for a collection. 24 bytes for an index by name, which include the collection's version, because writes
    to the active index are counted there. Each aligned word is read and written atomically."""
    word = int(words[slot(scope)]).to_bytes(WORD_BYTES)
    return version(words, scope.at("")) + word if scope.index else int(words[0]).to_bytes(WORD_BYTES) + word


@lru_cache(SLOTS)
def slot(scope: Scope) -> int:
    digest = hashlib.blake2b(
        f"{scope.tenant}/{scope.collection}/{scope.index}".encode(), digest_size=WORD_BYTES
    ).digest()
    return 1 + int.from_bytes(digest) % SLOTS
