"""A folder that many processes of one user share: private, with a lock that is held briefly, emptied after a boot."""

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
    """The folder for this user and data_dir: all processes of one service share it, and no other service does. None if
    the machine has no writable TMPFS."""
    if not os.access(TMPFS, os.W_OK):
        logger.info("no cache in shared memory: %s is missing or not writable", TMPFS)
        return None
    service = hashlib.blake2b(os.fsencode(data_dir), digest_size=4).hexdigest()
    return TMPFS / f"ai-docs-{os.geteuid()}-{service}"


@contextlib.contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Exclusive for one thread of one process. A killed process releases the lock. Raises Unavailable if the lock is
    not free after `wait_s`."""
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
    """Create the folder with mode 0700. It contains answers, so no other user may read it, or have created it first.
    Raises PermissionError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.lstat().st_uid
    if folder.is_symlink() or owner != os.geteuid():
        raise PermissionError(f"it is a symbolic link, or belongs to user {owner}")
    folder.chmod(0o700)


def empty_after_boot(folder: Path) -> None:
    """Remove the files that were written before the machine's last boot. Call it under the lock."""
    boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else str(round(psutil.boot_time()))
    owner = folder / "boot"
    if not owner.exists() or owner.read_text() != boot:
        for path in folder.glob("*.lmdb*"):
            path.unlink(missing_ok=True)
        owner.write_text(boot)


def size_bytes(folder: Path) -> int:
    """Disk space of the generations. The files are sparse, so it may be less than their lengths."""
    total = 0
    for path in folder.glob("*.lmdb"):
        with contextlib.suppress(FileNotFoundError):  # removed by a rotation in another process
            total += path.stat().st_blocks * 512
    return total
