"""One index of the embedded store: its open shard, its writer thread, and the steps of an optimisation.

Reads run in any thread. Every change runs in the writer thread, one job after another. So changes need no locks, and a
caller that leaves does not interrupt a job.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import qdrant_edge as edge

from serve_app.errors import NotFound, PlatformError, StoreBroken, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.fields import FieldIndexes
from serve_app.store.edge.free_space import OPENING_BYTES, require_room, size_on_disk_bytes, written_bytes
from serve_app.store.edge.gate import Gate
from serve_app.store.edge.generation import Generation, Generations
from serve_app.store.edge.shard import (
    FLUSH_AFTER_POINTS,
    MAX_STEP_POINTS,
    apply,
    copy_points,
    create_index,
    create_shard,
    edge_errors,
    from_record,
)
from serve_app.store.payload import require_storable
from serve_app.store.points import StoredPoint
from serve_app.store.write_plan import Step, parts, plan_removal, plan_write
from serve_app.types import IndexedDocument, Recipe, Scope, VectorSpace, document_point_id, passage_point_id

T = TypeVar("T")


class Collection:
    """Every method raises NotFound after `drop`, and StoreUnavailable after `close`."""

    def __init__(
        self,
        scope: Scope,
        recipe: Recipe,
        generation: Generation,
        settings: StoreSettings,
        changed: Callable[[Scope], None],
        *,
        is_active: bool,
    ) -> None:
        """scope: includes the index's name. changed: called after each change that a search can see, before the write
        is acknowledged."""
        self.scope, self.recipe = scope, recipe
        self.gate = Gate(scope.index, is_active=is_active)
        self._on_changed = changed
        self._folder, self._settings = generation.folder.parent, settings
        self._generations = Generations(generation)
        self._dropped = self._ended = False
        self._touched: set[str] | None = None  # ids written since the copy that is being optimised
        self._touching = threading.Lock()  # guards _touched
        self.broken: StoreBroken | None = None
        self._unflushed_points = 0
        self.indexes = FieldIndexes(self.shard, self.submit, self._require_room)
        self._writer = ThreadPoolExecutor(1, f"store-writer-{scope.collection}")

    @classmethod
    def open(
        cls, folder: Path, scope: Scope, settings: StoreSettings, changed: Callable[[Scope], None], *, is_active: bool
    ) -> Collection:
        """Opens the index and removes leftovers of a crash. Raises StoreUnavailable if it cannot be read."""
        recipe = folders.read_recipe(folder)
        for leftover in folders.leftovers(folder):
            shutil.rmtree(leftover, ignore_errors=True)
        require_room(folder, OPENING_BYTES)
        current = folders.current_generation(folder)
        generation = Generation.open(current, settings, recipe.space.dim)
        return cls(scope, recipe, generation, settings, changed, is_active=is_active)

    @classmethod
    def create(
        cls,
        folder: Path,
        scope: Scope,
        recipe: Recipe,
        settings: StoreSettings,
        changed: Callable[[Scope], None],
        *,
        is_active: bool,
    ) -> Collection:
        """Creates an empty index. Raises StoreFull if the disk has no room for it."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        require_room(folder.parent, settings.min_free_bytes)
        folders.begin_index(folder, recipe)
        path = folders.new_generation(folder)
        generation = Generation(path, create_shard(path, settings, recipe.space.dim), 0)
        folders.switch_to(path)
        return cls(scope, recipe, generation, settings, changed, is_active=is_active)

    @property
    def space(self) -> VectorSpace:
        return self.recipe.space

    @contextmanager
    def _in_use(self) -> Iterator[Generation]:
        with self._generations.used() as generation:
            if generation is None:
                raise self._no_more()
            try:
                with edge_errors():
                    yield generation
            except StoreBroken as error:
                self.broken = error
                raise

    @contextmanager
    def shard(self) -> Iterator[edge.EdgeShard]:
        """The current shard. It stays open while the context lasts."""
        with self._in_use() as generation:
            yield generation.shard

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run the job in the writer thread."""
        try:
            return self._writer.submit(job)
        except RuntimeError:  # shut down
            raise self._no_more() from None

    # Jobs for the writer thread.

    def write(self, documents: Sequence[IndexedDocument], *, by_name: bool) -> None:
        """documents: with unique ids. by_name: see Gate.require_open."""
        self.gate.require_open(by_name=by_name)
        require_storable(documents, self.space.dim)
        for batch in parts(documents, MAX_STEP_POINTS):
            stored = self._passages_of([indexed.document.id for indexed in batch])
            present = self._present(batch, stored)
            self._require_room(written_bytes(batch))
            self._apply(plan_write(self.scope, batch, stored, MAX_STEP_POINTS, present))
            self.indexes.written(batch)

    def delete(self, document_ids: Sequence[str], *, by_name: bool) -> int:
        self.gate.require_open(by_name=by_name)
        deleted = 0
        for batch in parts(list(dict.fromkeys(document_ids)), MAX_STEP_POINTS):
            stored = self._passages_of(batch)
            self._apply(plan_removal(self.scope, stored, MAX_STEP_POINTS))
            deleted += len(stored)
        return deleted

    def _present(self, documents: Sequence[IndexedDocument], stored: Mapping[str, int]) -> dict[str, StoredPoint]:
        """The stored passages that these documents would replace, by point id."""
        ids = [
            passage_point_id(self.scope, indexed.document.id, number)
            for indexed in documents
            for number in range(min(len(indexed.passages), stored.get(indexed.document.id, 0)))
        ]
        points: dict[str, StoredPoint] = {}
        with self.shard() as shard:
            for some in parts(ids, MAX_STEP_POINTS):
                points |= {point.id: point for point in map(from_record, shard.retrieve([*some], True, True))}
        return points

    def _passages_of(self, document_ids: Sequence[str]) -> dict[str, int]:
        """Document id → `passages` of its record, for each of these documents that has one."""
        ids: list[int | UUID | str] = [document_point_id(self.scope, document_id) for document_id in document_ids]
        with self.shard() as shard:
            records = shard.retrieve(ids, ["document_id", "passages"], False)
        payloads = [record.payload for record in records if record.payload]
        return {payload["document_id"]: payload["passages"] for payload in payloads}

    def _apply(self, steps: Iterable[Step]) -> None:
        with self.shard() as shard:
            for step in steps:
                self._require_room()
                try:
                    apply(shard, step)
                finally:  # even after an error, since a part of the step may be done
                    with self._touching:
                        if self._touched is not None:
                            self._touched.update(step.ids)
                    self._on_changed(self.scope.at("") if self.gate.is_active else self.scope)
                self._unflushed_points += len(step.ids)
                if self._unflushed_points >= FLUSH_AFTER_POINTS:
                    shard.flush()
                    self._unflushed_points = 0

    def _require_room(self, more_bytes: int = 0) -> None:
        require_room(self._folder, self._settings.min_free_bytes, more_bytes)

    # Steps of an optimisation, in order. copy_for_optimizing and replace_by run in the writer thread.

    def copy_for_optimizing(self) -> Path:
        """Copy the shard, and record the ids of later writes for `take_touched`. Removes the copy if it fails, as on a
        full disk."""
        with self._in_use() as generation:
            generation.shard.flush()
            self._require_room(2 * size_on_disk_bytes(generation.folder))  # the copy and its optimised version
            copy = folders.new_generation(self._folder)
            try:
                folders.copy_sparsely(generation.folder, copy)
            except BaseException:
                shutil.rmtree(copy, ignore_errors=True)
                raise
            with self._touching:
                self._touched = set()
        return copy

    def take_touched(self) -> set[str]:
        with self._touching:
            touched, self._touched = self._touched or set(), set()
        return touched

    def replace_by(self, generation: Generation) -> Generation:
        """Bring the new generation up to date and make it the current one. Returns the old one, for `retire`."""
        with self.shard() as shard:
            for ids in parts(sorted(self.take_touched()), MAX_STEP_POINTS):
                copy_points(shard, generation.shard, ids)
            for path, index in shard.info().payload_schema.items():
                if path not in generation.shard.info().payload_schema:
                    create_index(generation.shard, path, index.data_type)
        try:
            folders.switch_to(generation.folder)
        except OSError:  # it may have happened after the switch
            if folders.current_generation(self._folder) != generation.folder:
                raise
        old = self._generations.replace(generation)
        assert old is not None
        with self._touching:
            self._touched = None
        return old

    def retire(self, generation: Generation) -> None:
        """Close a replaced generation once nobody uses it, and remove its folder."""
        if self._generations.close(generation, self._settings.timeout_s):
            shutil.rmtree(generation.folder, ignore_errors=True)

    def abandon(self, copy: Path) -> None:
        """Undo an optimisation that failed: remove the copy and stop recording ids."""
        with self._touching:
            self._touched = None
        shutil.rmtree(copy, ignore_errors=True)

    def unindexed_passages(self) -> int:
        """The number of passages written since the last optimisation, without those that have no words. Edge counts a
        sparse vector as indexed at once, and a dense vector only when it is in a graph. So the count has grown by one
        for each passage since."""
        with self._in_use() as generation:
            return max(0, generation.shard.info().indexed_vectors_count - generation.indexed)

    def points(self) -> int:
        with self.shard() as shard:
            return shard.info().points_count

    # The end.

    def close(self) -> None:
        """Waits for queued jobs. Acknowledged writes are on disk even without it."""
        self._end()

    def drop(self) -> None:
        """Call after folders.end_index. Waits until nobody uses the index, then removes its folder."""
        self._dropped = True
        self._end()
        folders.end_index(self._folder)  # again: an optimisation may have written a new CURRENT in between
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def ended(self) -> bool:
        return self._ended

    def _no_more(self) -> PlatformError:
        if self._dropped:
            return NotFound(f"there is no collection {self.scope.collection!r}")
        return StoreUnavailable("the store is closed")

    def _end(self) -> None:
        self._ended = True
        self._writer.shutdown(wait=True, cancel_futures=False)
        if (last := self._generations.replace(None)) is not None:
            self._generations.close(last, self._settings.timeout_s)
