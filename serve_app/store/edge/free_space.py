"""Checks for free disk space before the embedded store writes.

Edge writes through memory-mapped sparse files. A write into a hole on a full disk ends the process with SIGBUS, which
cannot be caught. All collections would then be unavailable, and would stay so, because opening one writes as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from serve_app.errors import StoreFull
from serve_app.types import IndexedDocument

MIB = 1024 * 1024
OPENING_BYTES = 32 * MIB  # opening an index writes small files and replays interrupted writes from its log
COPIES = 2  # each write goes into the log and into a segment


def require_room(folder: Path, free_bytes: int, more_bytes: int = 0) -> None:
    """Raises StoreFull unless `more_bytes` fit on the folder's disk and leave `free_bytes` free."""
    free, needed = shutil.disk_usage(folder).free, free_bytes + more_bytes
    if free < needed:
        raise StoreFull(
            f"the disk of {folder} is full: {free / MIB:,.0f} MiB are free, {needed / MIB:,.0f} are needed. Make room "
            "and repeat the request; collections that are open can be searched"
        )


def written_bytes(documents: Iterable[IndexedDocument]) -> int:
    """Estimated size of a write of these documents: vectors, metadata, and text as if it were ASCII. Each passage has a
    copy of the metadata, and another one as facets (see payload)."""
    return COPIES * sum(
        len(indexed.document.text)
        + indexed.document.metadata_bytes * (1 + 2 * len(indexed.passages))
        + sum(len(item.passage.text) + item.dense.nbytes for item in indexed.passages)
        for indexed in documents
    )


def size_on_disk_bytes(folder: Path) -> int:
    """Disk space of the folder's files, without holes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
