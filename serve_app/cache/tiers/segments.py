"""A folder of LMDB files that many processes share, of bounded size: the blocking half of `LmdbTier`.

    boot       id of the machine's boot after which the folder was filled
    current    <Qd generation, created at>   mapped by every process, so a process notices another one's rotation by
               reading memory
    lock       flock of the process that rotates
    7.lmdb     the current generation, at most half of the limit. It contains the size of its memory map, set by the
               process that created it. The others use the same size, since LMDB cannot read beyond its own map
    6.lmdb     the generation before, which is only read

When a generation is full or old, the next one begins and the one before it is removed. Entries of the older generation
that are still read are copied to the current one, so only entries that nobody requests are lost (the second chance of
Corbató's CLOCK, 1968). LMDB files stay intact when a process is killed. Nothing is synced to the disk: the page cache
outlives a process. A crash of the machine may damage LMDB's pages, so a folder from before the last boot is emptied.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lmdb

from serve_app.cache.entry import Entry, decode, encode
from serve_app.cache.tiers.shared_folder import empty_after_boot, locked, make_private, size_bytes
from serve_app.cache.tiers.tier import Clock, TierUsage, utc_s
from serve_app.errors import ConfigurationError, Unavailable

logger = logging.getLogger(__name__)
CURRENT = struct.Struct("<Qd")
MAX_READERS = 1_024  # threads of all processes that read one generation at the same time
SEGMENT_DIVISOR = 8  # an entry larger than a generation divided by this is not stored
NOTHING = b""  # stored instead of an entry that is too large, so that the key's earlier entry is not found either
LOCK_WAIT_S = 5.0  # a rotation takes milliseconds
DAMAGE = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.VersionMismatchError)


class Segments:
    """Reads run in any thread and never wait. Writes of one process wait for each other. Raises ConfigurationError at
    construction if the folder cannot be used; methods raise Unavailable if it fails later."""

    def __init__(self, folder: Path, limit_bytes: int, ttl_s: float, clock: Clock = utc_s) -> None:
        self._folder = folder
        self._segment_bytes = limit_bytes // 2 // mmap.PAGESIZE * mmap.PAGESIZE
        self._ttl_s = ttl_s
        self._clock = clock
        self._writing = threading.Lock()
        self._damaged = False
        # Newest first. A reader holds the tuple, so no environment is closed while it is read.
        self._open: tuple[tuple[int, lmdb.Environment], ...] = ()
        try:
            make_private(folder)
            with locked(folder, LOCK_WAIT_S):
                empty_after_boot(folder)
                self._current = map_current(folder, clock())
                self._adopt()
        except (OSError, lmdb.Error, Unavailable) as error:
            raise ConfigurationError(f"the cache folder {folder} cannot be used: {error}") from error

    def get_many(self, keys: Sequence[bytes]) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
        """The entries found, and those of them that only the older generation has."""
        with self._translated():
            self._follow()
            now_s = self._clock()
            newest, *older = (environment for _, environment in self._open)
            found = read(newest, keys, now_s)
            aged: dict[bytes, Entry | None] = {}
            for environment in older:
                if missing := [key for key in keys if key not in found]:
                    aged = read(environment, missing, now_s)
            return present(found | aged), present(aged)

    def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        with self._translated(), self._writing:
            self._follow()
            now_s = self._clock()
            if self._damaged:
                self._replace_all()
            elif now_s - CURRENT.unpack_from(self._current)[1] > self._ttl_s:
                self._rotate()  # frees the disk space of expired entries
            elif used_bytes(self._open[0][1]) > self._segment_bytes:
                self._rotate()  # a process with a higher limit created it
            largest = self._segment_bytes // SEGMENT_DIVISOR
            contents = ((key, encode(key, entry.until(now_s + self._ttl_s))) for key, entry in entries.items())
            self._write({key: content if len(content) <= largest else NOTHING for key, content in contents})

    def keep(self, aged: Mapping[bytes, Entry]) -> None:
        """Copy these entries to the current generation, unless it has an entry with their key. If the generation is
        full they are dropped."""
        with self._translated(), self._writing, contextlib.suppress(lmdb.MapFullError):
            self._follow()
            write(self._open[0][1], {key: encode(key, entry) for key, entry in aged.items()}, overwrite=False)

    def _write(self, batch: Mapping[bytes, bytes]) -> None:
        """Write the batch. If the generation is full, rotate; if the batch does not fit into an empty one, split it."""
        for last_try in (False, True):
            try:
                return write(self._open[0][1], batch)
            except lmdb.MapFullError:
                if not last_try:
                    self._rotate()
        if len(batch) > 1:
            items = list(batch.items())
            self._write(dict(items[: len(items) // 2]))
            self._write(dict(items[len(items) // 2 :]))
        return None

    def clear(self) -> None:
        """Delete every entry, for every process."""
        with self._translated(), self._writing:
            self._follow()
            self._replace_all()

    def usage(self) -> TierUsage:
        with self._translated():
            self._follow()
            entries = sum(environment.stat()["entries"] for _, environment in self._open)
            return TierUsage(size_bytes(self._folder), entries, 2 * self._segment_bytes)

    def close(self) -> None:
        self._open = ()  # each environment is closed with its last reader

    def _generation(self) -> int:
        return int(CURRENT.unpack_from(self._current)[0])

    def _follow(self) -> None:
        """Open the files of a rotation that another process has made. During a rotation the open files are used."""
        if not self._open:
            raise Unavailable("the cache is closed")
        if self._open[0][0] != self._generation():
            with contextlib.suppress(Unavailable), locked(self._folder, 0):
                self._adopt()

    def _rotate(self) -> None:
        seen = self._open[0][0]
        with locked(self._folder, LOCK_WAIT_S):
            if self._generation() == seen:  # else another process has rotated already
                CURRENT.pack_into(self._current, 0, seen + 1, self._clock())
            self._adopt()

    def _replace_all(self) -> None:
        with locked(self._folder, LOCK_WAIT_S):
            CURRENT.pack_into(self._current, 0, self._generation() + 2, self._clock())
            self._adopt()
        self._damaged = False

    def _adopt(self) -> None:
        """Open the current generation and the one before, and remove all others. Call it under the lock."""
        held = dict(self._open)
        generation = self._generation()
        try:
            newest = held.get(generation) or self._environment(generation)
        except DAMAGE as error:  # its number is not reused, because other processes may have the file open
            logger.warning("generation %d of the cache in %s is damaged: %s", generation, self._folder, error)
            generation += 2
            CURRENT.pack_into(self._current, 0, generation, self._clock())
            newest = self._environment(generation)
        opened = [(generation, newest)]
        before = generation - 1
        if (self._folder / f"{before}.lmdb").exists():
            with contextlib.suppress(*DAMAGE):
                opened.append((before, held.get(before) or self._environment(before)))
        self._open = tuple(opened)
        keep = {str(number) for number, _ in opened}
        for path in self._folder.glob("*.lmdb*"):
            if path.name.split(".")[0] not in keep:
                path.unlink(missing_ok=True)

    def _environment(self, generation: int) -> lmdb.Environment:
        path = self._folder / f"{generation}.lmdb"
        is_made = path.exists() and path.stat().st_size > 0
        environment = lmdb.open(
            str(path),
            map_size=0 if is_made else self._segment_bytes,  # 0: the size in the file
            subdir=False,
            sync=False,
            readahead=False,
            mode=0o600,
            max_readers=MAX_READERS,
            max_spare_txns=4,
        )
        environment.reader_check()  # frees the reader slots of killed processes
        if path.stat().st_size < used_bytes(environment):
            environment.close()
            raise lmdb.CorruptedError("the file is cut off")  # reading it would kill this process (SIGBUS)
        return environment

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of LMDB and the file system become Unavailable."""
        try:
            yield
        except DAMAGE as error:
            self._damaged = True  # the next write replaces all files
            raise Unavailable(f"the cache in {self._folder} is damaged: {error}") from error
        except (OSError, lmdb.Error) as error:
            raise Unavailable(f"the cache in {self._folder}: {error}") from error


def map_current(folder: Path, now_s: float) -> mmap.mmap:
    """The current generation's number and creation time, shared by all processes. Call it under the lock."""
    path = folder / "current"
    if not path.exists() or path.stat().st_size != CURRENT.size:
        numbers = [int(p.stem) for p in folder.glob("*.lmdb") if p.stem.isdecimal()]
        path.write_bytes(CURRENT.pack(max(numbers, default=0) + 1, now_s))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), CURRENT.size)


def used_bytes(environment: lmdb.Environment) -> int:
    return int(environment.stat()["psize"] * (environment.info()["last_pgno"] + 1))


def read(environment: lmdb.Environment, keys: Sequence[bytes], now_s: float) -> dict[bytes, Entry | None]:
    """The value is None if the key's last entry has expired or is damaged: an older entry would be wrong. Payloads are
    copied once."""
    found = {}
    with environment.begin(None, None, False, True) as transaction:
        for key in keys:
            content = transaction.get(key)
            if content is not None:
                found[key] = decode(key, content, now_s)
    return found


def present(found: Mapping[bytes, Entry | None]) -> dict[bytes, Entry]:
    return {key: entry for key, entry in found.items() if entry is not None}


def write(environment: lmdb.Environment, batch: Mapping[bytes, bytes], *, overwrite: bool = True) -> None:
    with environment.begin(write=True) as transaction:
        for key, content in batch.items():
            transaction.put(key, content, overwrite=overwrite)
