"""Open shards of one collection of the embedded store. An optimisation makes a new one; the old one is closed when
nobody uses it any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import qdrant_edge as edge

from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.shard import edge_errors, load_shard

LOG = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Generation:
    """An open shard, what it counted as indexed when it was optimised, and how many are using it at this moment."""

    folder: Path
    shard: edge.EdgeShard
    indexed: int
    users: int = 0

    @classmethod
    def open(cls, folder: Path, settings: StoreSettings, dim: int) -> Generation:
        return cls(folder, load_shard(folder, settings, dim), folders.indexed_when_optimized(folder))


class Generations:
    """Which of them counts, and who uses it. For any thread."""

    def __init__(self, current: Generation) -> None:
        self._current: Generation | None = current
        self._changed = threading.Condition()  # guards _current and users of all

    @contextmanager
    def used(self) -> Iterator[Generation | None]:
        """The one that counts now; it stays open as long as this context. None after the last."""
        with self._changed:
            if (generation := self._current) is not None:
                generation.users += 1
        try:
            yield generation
        finally:
            if generation is not None:
                with self._changed:
                    generation.users -= 1
                    self._changed.notify_all()

    def replace(self, new: Generation | None) -> Generation | None:
        """Returns the one that has counted until now."""
        with self._changed:
            old, self._current = self._current, new
        return old

    def close(self, generation: Generation, timeout_s: float) -> bool:
        """One that no longer counts, once nobody uses it. False if it is still used after timeout_s: it stays open."""
        with self._changed:
            unused = self._changed.wait_for(lambda: generation.users == 0, timeout_s)
        if unused:
            with edge_errors():
                generation.shard.close()
        else:
            LOG.warning("a shard in %s is still in use after %s s and stays open", generation.folder, timeout_s)
        return unused
