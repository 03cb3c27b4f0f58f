"""Payload indexes of one index of the embedded store. A payload index is created when a query first needs it, if any
passage has the field; so an invented name in a query creates none."""

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
MAX_ABSENT = 256  # paths to remember
Wanted = tuple[str, edge.PayloadSchemaType]  # path and type of an index


def has_field(shard: edge.EdgeShard, path: str) -> bool:
    """Whether any passage has a value at this path. Without a payload index, this reads payloads until it finds one."""
    if path in OWN_FIELDS:
        return True
    present = edge_filter({"must_not": [{"is_empty": {"key": path}}]}, PASSAGE)
    with edge_errors():
        records, _ = shard.scroll(edge.ScrollRequest(limit=1, filter=present, with_payload=False))
    return bool(records)


class AbsentFields:
    """Paths that no passage has. Any thread may use `in`; only the writer thread may use the methods."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def add(self, path: str) -> None:
        if len(self._paths) >= MAX_ABSENT:
            self._paths.clear()
        self._paths.add(path)

    def forget(self, written: Iterable[IndexedDocument]) -> None:
        """Forget each path that these documents may have. Only paths of metadata keys that they lack are kept."""
        if self._paths:
            keys = {key for indexed in written for key in indexed.document.metadata}
            starts = tuple(f"{mirror}{key}" for mirror in MIRRORS for key in (*keys, *(f'"{key}"' for key in keys)))
            self._paths = {path for path in self._paths if path.startswith(MIRRORS) and not path.startswith(starts)}


class FieldIndexes:
    """Finds and creates missing payload indexes. shard, submit: of the Collection, whose errors are passed on."""

    def __init__(
        self,
        shard: Callable[[], AbstractContextManager[edge.EdgeShard]],
        submit: Callable[[Callable[[], None]], Future[None]],
        require_room: Callable[[], None],
    ) -> None:
        self._shard, self._submit, self._require_room = shard, submit, require_room
        self._absent = AbsentFields()
        self._coming: set[str] = set()  # paths whose creation is queued in the writer thread

    def missing(self, wanted: Iterable[Wanted]) -> dict[str, edge.PayloadSchemaType]:
        """The wanted indexes that do not exist, without paths that are known to be absent."""
        by_path = {path: schema for path, schema in wanted if path not in self._absent}
        if not by_path:
            return {}
        with self._shard() as shard:
            existing = shard.info().payload_schema
        room = len(existing) < MAX_INDEXES
        return {path: schema for path, schema in by_path.items() if room and path not in existing}

    def make_soon(self, wanted: Iterable[Wanted]) -> None:
        """Queue the creation of missing indexes in the writer thread, for the filters of later queries. Call it from
        one thread only."""
        missing = self.missing((path, schema) for path, schema in wanted if path not in self._coming)
        if missing:
            self._coming |= missing.keys()
            making = self._submit(lambda: self.make(missing, MAX_INDEXES_FOR_FILTERS))
            making.add_done_callback(lambda _: self._coming.difference_update(missing))

    # The methods below run in the writer thread.

    def make(self, wanted: Mapping[str, edge.PayloadSchemaType], most: int) -> None:
        """Create these indexes for fields that any passage has, until there are `most`. Filters are correct without
        them, too. Raises StoreFull if the disk has no room."""
        with self._shard() as shard:
            for path, schema in wanted.items():
                existing = shard.info().payload_schema
                if path in existing or len(existing) >= most:
                    continue
                with suppress(InvalidInput), edge_errors():  # the query that needs it raises the error
                    if has_field(shard, path):
                        self._require_room()
                        create_index(shard, path, schema)
                    else:
                        self._absent.add(path)

    def written(self, documents: Iterable[IndexedDocument]) -> None:
        """Call after each write, because these documents may have fields that no passage had."""
        self._absent.forget(documents)
