"""What answers a request, as one immutable bundle (DESIGN §2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from serve_app.settings import ChunkingSettings, SearchSettings
from serve_app.types import VectorSpace


@dataclass(frozen=True)
class Release:
    """Embedding model and revision, precision, chunking and search profiles."""

    space: VectorSpace
    precision: str
    chunking: ChunkingSettings
    search: SearchSettings

    @property
    def name(self) -> str:
        """The model's short name and 8 hex digits of everything that can change an answer: same bundle, same name."""
        content = [asdict(self.space), self.precision, self.chunking.model_dump(), self.search.model_dump(mode="json")]
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{self.space.model.rsplit('/', 1)[-1]}-{digest}"
