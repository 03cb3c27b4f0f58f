"""What answers a request, as one immutable bundle (DESIGN §2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from serve_app.settings import ChunkingSettings, SearchSettings, Settings
from serve_app.types import FIRST_INDEX, VectorSpace


@dataclass(frozen=True)
class Release:
    """Embedding model and revision, engine and precision, chunking and search profiles.

    precision: what the engine computes in; for a pool, precision as configured. There "auto" means that each embedder
    takes what its own machine does best, so that no one value is true of all, now and after the pool has grown.
    """

    space: VectorSpace
    engine: str
    precision: str
    chunking: ChunkingSettings
    search: SearchSettings

    @classmethod
    def of(cls, settings: Settings, space: VectorSpace, precision: str) -> Release:
        return cls(space, settings.embedding.engine, precision, settings.chunking, settings.search)

    @property
    def name(self) -> str:
        """The model's short name and 8 hex digits of the bundle: same bundle, same name."""
        arithmetic = [asdict(self.space), self.engine, self.precision]
        content = [*arithmetic, self.chunking.model_dump(), self.search.model_dump(mode="json")]
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{self.space.model.rsplit('/', 1)[-1]}-{digest}"


def release_at(release: str, index: str) -> str:
    """The name of what answers from this index of a collection, which may be made otherwise than the release says."""
    return release if index == FIRST_INDEX else f"{release}@{index}"
