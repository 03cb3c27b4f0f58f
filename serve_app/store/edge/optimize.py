"""Optimises a shard (builds its HNSW graph) while searches, writes and health checks go on.

    writer    flush, copy the shard ─ writes to the live shard, records ids ──────────────── last ids, CURRENT, swap
    child                             optimises the copy, in its own process
    optimizer                                                                copies the points of recorded ids, in steps

CURRENT names the old generation until the new one replaces it. At that moment both have every acknowledged write, so a
kill at any time loses none.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import PlatformError, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.collection import Collection
from serve_app.store.edge.generation import Generation
from serve_app.store.edge.shard import MAX_STEP_POINTS, copy_points, edge_errors
from serve_app.store.write_plan import parts

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).parents[3]  # where the child finds serve_app
TIMEOUT_S = 4 * 3600.0  # of the child
POLL_S = 0.05
FIRST_RETRY_S, LAST_RETRY_S = 60.0, 3_600.0
MAX_ROUNDS = 20  # of catching up; then writes wait while the rest is copied


def should_optimize(points: int, unindexed: int, after_passages: int) -> bool:
    """Whether at least `after_passages`, and a tenth of all points, are unindexed. The tenth counts because the cost
    grows with the size of the whole shard."""
    return unindexed >= max(after_passages, points // 10)


def retry_delay_s(failures: int) -> float:
    """Pause after this number of consecutive failures."""
    return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (failures - 1))


def optimize(collection: Collection, settings: StoreSettings, cancelled: Callable[[], bool]) -> None:
    """Blocks until it is done. If it fails, the collection is unchanged; raises PlatformError."""
    copy = collection.submit(collection.copy_for_optimizing).result()
    try:
        _run_child(copy, cancelled)
        generation = Generation.open(copy, settings, collection.space.dim)
        try:
            generation.indexed = generation.shard.info().indexed_vectors_count
            folders.record_optimized(copy, generation.indexed)
            _catch_up(collection, generation, cancelled)
            old = collection.submit(lambda: collection.replace_by(generation)).result()
        except BaseException:
            with edge_errors():
                generation.shard.close()
            raise
    except BaseException:
        collection.abandon(copy)
        raise
    collection.retire(old)


def _run_child(copy: Path, cancelled: Callable[[], bool]) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "serve_app.store.edge.optimize_child", str(copy), str(os.getpid())]
    end = time.monotonic() + TIMEOUT_S
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": path}
        ) as child:
            while child.poll() is None:
                if cancelled() or time.monotonic() > end:
                    child.kill()
                time.sleep(POLL_S)
        if child.returncode != 0:
            said.seek(0)
            reason = said.read()[-2_000:].decode(errors="replace").strip()
            raise StoreUnavailable(f"the optimiser ended with {child.returncode}: {reason or 'killed'}")


def _catch_up(collection: Collection, generation: Generation, cancelled: Callable[[], bool]) -> None:
    """Copy the points written since the copy, in rounds. Rounds get shorter unless writes are faster than copying."""
    for _ in range(MAX_ROUNDS):
        touched = sorted(collection.take_touched())
        for ids in parts(touched, MAX_STEP_POINTS):
            if cancelled():
                raise StoreUnavailable("the store is closing")
            with collection.shard() as shard:
                copy_points(shard, generation.shard, ids)
        if len(touched) <= MAX_STEP_POINTS:
            return


@dataclass(slots=True)
class Backoff:
    failures: int
    not_before_s: float  # on the monotonic clock


class Optimizer:
    """Runs one optimisation at a time, for all collections, in its own thread."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "store-optimizer")
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[Collection] = set()
        self._backoffs: dict[Collection, Backoff] = {}

    def consider(self, collection: Collection) -> None:
        """Start an optimisation in the background if enough is unindexed. Does nothing if one is queued for this
        collection, or has just failed. Called after writes."""
        try:
            points, unindexed = collection.points(), collection.unindexed_passages()
        except PlatformError:  # the collection has ended, which is no failure of the write
            return
        if not should_optimize(points, unindexed, self._settings.optimize_after_passages):
            return
        with self._lock:
            backoff = self._backoffs.get(collection)
            if collection in self._waiting or (backoff and time.monotonic() < backoff.not_before_s):
                return
            self._waiting.add(collection)
        try:
            self._thread.submit(self._in_background, collection)
        except RuntimeError:  # closed
            return

    def submit(self, collection: Collection) -> Future[None]:
        """Optimise now, or after the optimisation that is running."""
        return self._thread.submit(self._optimize, collection)

    def _optimize(self, collection: Collection) -> None:
        started = time.monotonic()
        optimize(collection, self._settings, lambda: self._closing.is_set() or collection.ended)
        LOG.info("optimised %s in %.1f s", collection.scope, time.monotonic() - started)

    def _in_background(self, collection: Collection) -> None:
        try:
            self._optimize(collection)
        except Exception as error:
            if self._closing.is_set() or collection.ended:
                return
            with self._lock:
                failures = getattr(self._backoffs.get(collection), "failures", 0) + 1
                self._backoffs[collection] = Backoff(failures, time.monotonic() + retry_delay_s(failures))
            expected = isinstance(error, PlatformError)
            LOG.warning("optimising %s failed: %s", collection.scope, error, exc_info=not expected)
        else:
            with self._lock:
                self._backoffs.pop(collection, None)
        finally:
            with self._lock:
                self._waiting.discard(collection)

    def close(self) -> None:
        """Stop a running optimisation, which leaves its collection unchanged."""
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
