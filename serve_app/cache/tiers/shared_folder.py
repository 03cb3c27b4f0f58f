"""A folder that many processes of one user share: private, locked for a moment at a time, empty after a boot."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from serve_app.errors import Unavailable

logger = logging.getLogger(__name__)
TMPFS = Path("/dev/shm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCK_POLL_S = 0.01


def in_shared_memory(data_dir: Path) -> Path | None:
    """One for each user and data_dir, so that all processes of one service share it and no others do."""
    if not os.access(TMPFS, os.W_OK):
        logger.info("no cache in shared memory: %s is not there", TMPFS)
        return None
    service = hashlib.blake2b(os.fsencode(data_dir), digest_size=4).hexdigest()
    return TMPFS / f"ai-docs-{os.geteuid()}-{service}"


@contextlib.contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """One thread of one process at a time; a killed one lets go. Raises Unavailable if it is not free in time."""
    deadline_s = time.monotonic() + wait_s
    with (folder / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise Unavailable(f"another process has held {folder / 'lock'} for {wait_s:g} s") from None
                time.sleep(LOCK_POLL_S)
        yield


def make_private(folder: Path) -> None:
    """Answers are in it: nobody else may read them, or have put a folder of theirs there first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.lstat().st_uid
    if folder.is_symlink() or owner != os.geteuid():
        raise PermissionError(f"it is a link, or belongs to user {owner}")
    folder.chmod(0o700)


def empty_after_boot(folder: Path) -> None:
    """Remove what an earlier run of the machine left. Under the lock."""
    boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else str(round(psutil.boot_time()))
    owner = folder / "boot"
    if not owner.exists() or owner.read_text() != boot:
        for path in folder.glob("*.lmdb*"):
            path.unlink(missing_ok=True)
        owner.write_text(boot)


def size_bytes(folder: Path) -> int:
    """What the generations take on the disk; a file's length may be more than that."""
    total = 0
    for path in folder.glob("*.lmdb"):
        with contextlib.suppress(FileNotFoundError):  # a rotation elsewhere
            total += path.stat().st_blocks * 512
    return total
