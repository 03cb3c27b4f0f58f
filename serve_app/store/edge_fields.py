"""Which fields the passages of a collection have, so that a made-up name in a query gets no index."""

from __future__ import annotations

from collections.abc import Iterable

import qdrant_edge as edge

from serve_app.store.edge_indexes import edge_filter
from serve_app.store.edge_shard import edge_errors
from serve_app.store.field_paths import METADATA, OWN_FIELDS
from serve_app.store.payload import PASSAGE
from serve_app.types import IndexedDocument

MIRRORS = (f"{METADATA}.", "facets.", "dates.")
MAX_ABSENT = 256  # remembered for one collection


def has_field(shard: edge.EdgeShard, path: str) -> bool:
    """Whether any passage has a value there. Without an index it reads payloads until it finds one."""
    if path in OWN_FIELDS:
        return True
    present = edge_filter({"must_not": [{"is_empty": {"key": path}}]}, PASSAGE)
    with edge_errors():
        records, _ = shard.scroll(edge.ScrollRequest(limit=1, filter=present, with_payload=False))
    return bool(records)


class AbsentFields:
    """Paths which no passage had when it was looked, and none since; used in the writer thread only, `in` anywhere."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def add(self, path: str) -> None:
        if len(self._paths) >= MAX_ABSENT:
            self._paths.clear()
        self._paths.add(path)

    def forget(self, written: Iterable[IndexedDocument]) -> None:
        """Those which these documents may have: all but of other keys of metadata."""
        if self._paths:
            keys = {key for indexed in written for key in indexed.document.metadata}
            starts = tuple(f"{mirror}{key}" for mirror in MIRRORS for key in (*keys, *(f'"{key}"' for key in keys)))
            self._paths = {path for path in self._paths if path.startswith(MIRRORS) and not path.startswith(starts)}
