"""Payload indexes of one collection of the embedded store: made when they are first wanted, of fields that its passages
have, so that a made-up name in a query gets none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress

import qdrant_edge as edge

from serve_app.errors import InvalidInput
from serve_app.store.edge.payload_indexes import MAX_INDEXES, MAX_INDEXES_FOR_FILTERS, edge_filter
from serve_app.store.edge.shard import create_index, edge_errors
from serve_app.store.filters.paths import METADATA, OWN_FIELDS
from serve_app.store.payload import PASSAGE
from serve_app.types import IndexedDocument

MIRRORS = (f"{METADATA}.", "facets.", "dates.")
MAX_ABSENT = 256  # remembered for one collection
Wanted = tuple[str, edge.PayloadSchemaType]  # path and type of an index


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


class FieldIndexes:
    """Which are wanted and not there, and their making. Raises what `shard` and `submit`, a collection's, raise."""

    def __init__(
        self,
        shard: Callable[[], AbstractContextManager[edge.EdgeShard]],
        submit: Callable[[Callable[[], None]], Future[None]],
        require_room: Callable[[], None],
    ) -> None:
        self._shard, self._submit, self._require_room = shard, submit, require_room
        self._absent = AbsentFields()
        self._coming: set[str] = set()  # paths of indexes that the writer was asked for

    def missing(self, wanted: Iterable[Wanted]) -> dict[str, edge.PayloadSchemaType]:
        """Those of them that the collection has not and that its passages may have."""
        by_path = {path: schema for path, schema in wanted if path not in self._absent}
        if not by_path:
            return {}
        with self._shard() as shard:
            existing = shard.info().payload_schema
        room = len(existing) < MAX_INDEXES
        return {path: schema for path, schema in by_path.items() if room and path not in existing}

    def make_soon(self, wanted: Iterable[Wanted]) -> None:
        """Have the writer make them when it comes to it, for the filters of later queries. In one thread only."""
        missing = self.missing((path, schema) for path, schema in wanted if path not in self._coming)
        if missing:
            self._coming |= missing.keys()
            making = self._submit(lambda: self.make(missing, MAX_INDEXES_FOR_FILTERS))
            making.add_done_callback(lambda _: self._coming.difference_update(missing))

    # In the writer thread.

    def make(self, wanted: Mapping[str, edge.PayloadSchemaType], most: int) -> None:
        """Of fields that any passage has, until the collection has `most`; filters are right without, too. Raises
        StoreFull if the disk has no room for one."""
        with self._shard() as shard:
            for path, schema in wanted.items():
                existing = shard.info().payload_schema
                if path in existing or len(existing) >= most:
                    continue
                with suppress(InvalidInput), edge_errors():  # the query that wants it will say so
                    if has_field(shard, path):
                        self._require_room()
                        create_index(shard, path, schema)
                    else:
                        self._absent.add(path)

    def written(self, documents: Iterable[IndexedDocument]) -> None:
        """They may have fields that no passage had."""
        self._absent.forget(documents)
