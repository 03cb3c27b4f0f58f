"""What answers a request, as one immutable bundle (DESIGN §2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from serve_app.ports import Reranker
from serve_app.settings import ChunkingSettings, SearchSettings, Settings
from serve_app.types import FIRST_INDEX, VectorSpace


@dataclass(frozen=True)
class Release:
    """Embedding model and revision, engine and precision, chunking, search profiles and what reranks for them.

    precision: what the engine computes in; for a pool, precision as configured. There "auto" means that each embedder
    takes what its own machine does best, so that no one value is true of all, now and after the pool has grown.
    rerankers: profile → identity.
    """

    space: VectorSpace
    engine: str
    precision: str
    chunking: ChunkingSettings
    search: SearchSettings
    rerankers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: Settings, space: VectorSpace, precision: str, rerankers: Mapping[str, Reranker] | None = None
    ) -> Release:
        identities = {profile: reranker.identity for profile, reranker in (rerankers or {}).items()}
        return cls(space, settings.embedding.engine, precision, settings.chunking, settings.search, identities)

    @property
    def name(self) -> str:
        """The model's short name and 8 hex digits of the bundle: same bundle, same name."""
        arithmetic = [asdict(self.space), self.engine, self.precision]
        how = [self.chunking.model_dump(), self.search.model_dump(mode="json"), dict(self.rerankers)]
        content = [*arithmetic, *how]
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{self.space.model.rsplit('/', 1)[-1]}-{digest}"


def release_at(release: str, index: str) -> str:
    """The name of what answers from this index of a collection, which may be made otherwise than the release says."""
    return release if index == FIRST_INDEX else f"{release}@{index}"
