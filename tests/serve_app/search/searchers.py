"""Searchers over a test's own embedders and store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.cache.tiered import Tiered
from serve_app.ports import Embedder, Reranker, ServedModel, VectorStore
from serve_app.search.release import Assignment, Release, always
from serve_app.search.retrieval import Retriever
from serve_app.search.searcher import Searcher
from serve_app.settings import BatchingSettings, SearchSettings, Settings
from serve_app.telemetry.meter import Meter
from serve_app.types import VectorSpace
from tests.contracts.corpus import BM25

PRECISION = "fp32"
NO_TOKENIZER: Any = None  # a search needs none


def release_of(
    space: VectorSpace,
    search: SearchSettings | None = None,
    *,
    index: str = "",
    rerankers: Mapping[str, Reranker] | None = None,
) -> Release:
    return Release.of(Settings(search=search or SearchSettings()), space, PRECISION, rerankers, index)


def make_searcher(
    store: VectorStore,
    *embedders: Embedder,
    cache: Tiered | None = None,
    meter: Meter | None = None,
    assign: Assignment | None = None,
    search: SearchSettings | None = None,
    rerankers: Mapping[str, Reranker] | None = None,
) -> Searcher:
    """By default every search is assigned the release of the first embedder and the active index."""
    release = release_of(embedders[0].space, search, rerankers=rerankers)
    models = {each.space: ServedModel(each, NO_TOKENIZER, PRECISION) for each in embedders}
    return Searcher(
        Retriever(models, BM25, store, BatchingSettings(), meter or Meter()),
        store,
        assign=assign or always(release),
        cache=cache or Tiered(()),
        rerankers={each.identity: each for each in (rerankers or {}).values()},
    )
