"""Room on the disk of the embedded store, asked for before anything is written.

Edge writes through mapped files that have holes: where the disk is full and a hole is written to, the system ends the
process (SIGBUS) and no error can be caught. All collections would be gone, and stay so, for opening one writes too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from serve_app.errors import StoreFull
from serve_app.types import IndexedDocument

MIB = 1024 * 1024
OPENING_BYTES = 32 * MIB  # opening a collection writes some small files, and what its log has of a write cut off
COPIES = 2  # of what is written: in the log, and in a segment


def require_room(folder: Path, free_bytes: int, more_bytes: int = 0) -> None:
    """Raises StoreFull unless `more_bytes` can be written to the folder's disk and leave `free_bytes` free."""
    free, needed = shutil.disk_usage(folder).free, free_bytes + more_bytes
    if free < needed:
        raise StoreFull(
            f"the disk of {folder} is full: {free / MIB:,.0f} MiB are free, {needed / MIB:,.0f} are needed. Make room "
            "and repeat what was refused; collections that are open can be searched"
        )


def written_bytes(documents: Iterable[IndexedDocument]) -> int:
    """About what a write of them takes, their vectors, metadata and ASCII text. Each passage has the metadata, too, and
    once more as facets (see payload)."""
    return COPIES * sum(
        len(indexed.document.text)
        + indexed.document.metadata_bytes * (1 + 2 * len(indexed.passages))
        + sum(len(item.passage.text) + item.dense.nbytes for item in indexed.passages)
        for indexed in documents
    )


def size_on_disk_bytes(folder: Path) -> int:
    """What its files take, holes not counted."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
