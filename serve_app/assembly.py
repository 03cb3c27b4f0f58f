"""The one place that builds a Searcher and an Indexer from settings: for the gateway, the jobs and the benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from serve_app.cache.tiered import Tiered
from serve_app.documents.indexing import Indexer
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.errors import ConfigurationError
from serve_app.ports import Reranker, ServedModel, SparseEncoder, VectorStore
from serve_app.search.cached_embedder import CachedEmbedder
from serve_app.search.release import Assignment, Release, always
from serve_app.search.retrieval import Retriever
from serve_app.search.searcher import Searcher
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.telemetry.meter import Meter
from serve_app.types import VectorSpace


@dataclass(frozen=True)
class Assembly:
    """What one process searches and indexes with. models: by space; the first one makes new collections. rerankers: by
    search profile."""

    settings: Settings
    store: VectorStore
    models: Mapping[VectorSpace, ServedModel]
    rerankers: Mapping[str, Reranker] = field(default_factory=dict)
    cache: Tiered = field(default_factory=lambda: Tiered(()))
    meter: Meter = field(default_factory=Meter)
    sparse: SparseEncoder = field(default_factory=Bm25SparseEncoder)

    @property
    def first_model(self) -> ServedModel:
        return next(iter(self.models.values()))

    def release(self, space: VectorSpace, index: str = "") -> Release:
        """What searches this index (the active one by default) with the loaded model of this space."""
        return Release.of(self.settings, space, self.models[space].precision, self.rerankers, index)

    def searcher(self, assign: Assignment | None = None) -> Searcher:
        """assign: by default every search is answered from the active index."""
        return Searcher(
            Retriever(self.models, self.sparse, self.store, self.settings.batching, self.meter),
            self.store,
            assign=assign or always(self.release(self.first_model.embedder.space)),
            cache=self.cache,
            rerankers={reranker.identity: reranker for reranker in self.rerankers.values()},
        )

    def indexer(self) -> Indexer:
        return Indexer(models=self.models, chunking=self.settings.chunking, sparse=self.sparse, store=self.store)


def assemble(
    settings: Settings,
    store: VectorStore,
    models: Iterable[ServedModel],
    *,
    rerankers: Mapping[str, Reranker] | None = None,
    cache: Tiered,
    meter: Meter | None = None,
) -> Assembly:
    """From parts that the caller owns. The cache keeps vectors as well as answers."""
    engine = settings.embedding.engine
    cached = [
        replace(model, embedder=CachedEmbedder(model.embedder, cache, f"{engine} {model.precision}"))
        for model in models
    ]
    return Assembly(settings, store, by_space(cached), rerankers or {}, cache, meter or Meter())


@contextmanager
def load_assembly(settings: Settings, store: VectorStore, models: Sequence[EmbeddingSettings]) -> Iterator[Assembly]:
    """With engines and cross-encoders of this process, which are closed at the end, and without a cache. Raises
    PlatformError."""
    with ExitStack() as stack:
        rerankers = load_rerankers(settings)
        for reranker in rerankers.values():
            stack.callback(reranker.close)
        loaded = []
        for each in models:
            model = load_model(settings, each)
            assert isinstance(model.embedder, LocalEmbedder)
            stack.callback(model.embedder.close)
            loaded.append(model)
        yield Assembly(settings, store, by_space(loaded), rerankers)


def load_model(settings: Settings, model: EmbeddingSettings, meter: Meter | None = None) -> ServedModel:
    engine = EmbeddingEngine.load(model, settings.data_dir)
    embedder = LocalEmbedder(engine, settings.batching.max_waiting, meter)
    return ServedModel(embedder, engine.tokenizer, engine.precision)


def by_space(models: Sequence[ServedModel]) -> dict[VectorSpace, ServedModel]:
    """Raises ConfigurationError if two of them are the same model."""
    found = {model.embedder.space: model for model in models}
    if len(found) < len(models):
        raise ConfigurationError("AIDOCS_EMBEDDING__FURTHER_MODELS names a model that is loaded already: remove it")
    return found
