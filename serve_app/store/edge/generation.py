"""The open shards of one index of the embedded store. An optimisation creates a new one; the old one is closed when
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
    """An open shard. indexed: vectors that it counted as indexed after its optimisation. users: calls that use it now,
    guarded by Generations."""

    folder: Path
    shard: edge.EdgeShard
    indexed: int
    users: int = 0

    @classmethod
    def open(cls, folder: Path, settings: StoreSettings, dim: int) -> Generation:
        return cls(folder, load_shard(folder, settings, dim), folders.indexed_when_optimized(folder))


class Generations:
    """Keeps the current generation, and counts the users of each generation. Thread-safe."""

    def __init__(self, current: Generation) -> None:
        self._current: Generation | None = current
        self._changed = threading.Condition()  # guards _current and Generation.users

    @contextmanager
    def used(self) -> Iterator[Generation | None]:
        """The current generation. It stays open while the context lasts. None after `replace(None)`."""
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
        """Make `new` the current generation. Returns the former one."""
        with self._changed:
            old, self._current = self._current, new
        return old

    def close(self, generation: Generation, timeout_s: float) -> bool:
        """Close a generation that is not current, once nobody uses it. Returns False, and leaves it open, if it is
        still used after timeout_s."""
        with self._changed:
            unused = self._changed.wait_for(lambda: generation.users == 0, timeout_s)
        if unused:
            with edge_errors():
                generation.shard.close()
        else:
            LOG.warning("a shard in %s is still in use after %s s and stays open", generation.folder, timeout_s)
        return unused
