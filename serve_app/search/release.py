"""What answers a request, as one immutable bundle, and the assignment of requests to such bundles (DESIGN §2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from serve_app.errors import ConfigurationError
from serve_app.ports import Reranker
from serve_app.settings import ChunkingSettings, SearchSettings, Settings
from serve_app.types import FIRST_INDEX, Principal, VectorSpace


@dataclass(frozen=True)
class Release:
    """Embedding model and revision, engine and precision, chunking, search profiles and their cross-encoders, and the
    index that is searched.

    precision: what the engine computes in. For a pool it is the configured precision: with "auto", each embedder
    chooses what suits its own machine, so no single value is true of all of them.
    rerankers: by profile, the identity of its cross-encoder.
    index: the name of one of the collection's indexes. "" stands for the active index; if that was made with another
    model, the searcher answers with that model instead, provided that it is loaded.
    """

    space: VectorSpace
    engine: str
    precision: str
    chunking: ChunkingSettings
    search: SearchSettings
    rerankers: Mapping[str, str] = field(default_factory=dict)
    index: str = ""

    @classmethod
    def of(
        cls,
        settings: Settings,
        space: VectorSpace,
        precision: str,
        rerankers: Mapping[str, Reranker] | None = None,
        index: str = "",
    ) -> Release:
        """rerankers: by profile. Raises ConfigurationError if a profile with a `rerank_model` has none."""
        identities = {profile: reranker.identity for profile, reranker in (rerankers or {}).items()}
        for name, profile in settings.search.profiles.items():
            if profile.rerank_model is not None and name not in identities:
                raise ConfigurationError(f"rerank_model of search profile {name!r} is not loaded")
        return cls(space, settings.embedding.engine, precision, settings.chunking, settings.search, identities, index)

    @cached_property
    def _bundle(self) -> str:
        settings = [self.chunking.model_dump(), self.search.model_dump(mode="json")]
        content = [asdict(self.space), self.engine, self.precision, *settings, dict(self.rerankers)]
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{self.space.model.rsplit('/', 1)[-1]}-{digest}"

    @property
    def name(self) -> str:
        """The model's short name and 8 hex digits of the bundle, then `@INDEX` for an index other than the first one.
        Equal bundles have equal names."""
        return self.name_at(self.index)

    def name_at(self, index: str) -> str:
        """The name of the release when this index answered. An index may be cut differently than the release says."""
        return self._bundle if index in ("", FIRST_INDEX) else f"{self._bundle}@{index}"

    @cached_property
    def key(self) -> str:
        """Identifies the release in cache keys. It differs from the name in that the active index has a key of its own,
        because another index may become active."""
        return f"{self._bundle}@{self.index}"


# Which release answers a principal's search of a collection. The last argument is the sticky key: requests with the
# same key are assigned the same release ("" if the client sent none).
Assignment = Callable[[Principal, str, str], Release]


def always(release: Release) -> Assignment:
    return lambda _principal, _collection, _sticky_key: release
