"""What a replica has, handed to `build_app` once. Deployments make it; the API only calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from serve_app.documents.indexing import Indexer
from serve_app.ports import Embedder, SparseEncoder, VectorStore
from serve_app.search.service import Searcher
from serve_app.settings import ApiSettings


@dataclass(frozen=True)
class Services:
    """embedder: should batch (BatchedEmbedder). models: ids that `/v1/embeddings` accepts, the answer's own one first;
    the part behind an id's last slash is accepted too. checks: by name, for `/health/ready`; each raises if its part
    cannot work, and is given up after `settings.health_timeout_s`."""

    embedder: Embedder
    sparse: SparseEncoder
    store: VectorStore
    searcher: Searcher
    indexer: Indexer
    settings: ApiSettings
    models: tuple[str, ...]
    checks: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
