"""Cross-encoders: models that read a query and a passage together and return one score (Nogueira and Cho, Passage
Re-ranking with BERT, 2019). They use the same engine, passes and lanes as embedding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from serve_app.embedding.engine import Engine, load_backend, prepare_model
from serve_app.embedding.models import Model, resolve_cross_encoder
from serve_app.embedding.passes import Passes
from serve_app.embedding.precision import INT8_FLAGS, choose_precision, cpu_flags
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import ConfigurationError, EngineUnavailable, PlatformError
from serve_app.settings import EmbeddingSettings, SearchProfile, Settings
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Vector


class LocalReranker:
    """Implements `ports.Reranker`, in this process."""

    def __init__(self, engine: Engine, max_waiting_texts: int = 4_096) -> None:
        """max_waiting_texts: limit for each lane."""
        self._engine = engine
        # A meter of its own keeps these passes out of the metrics of embedding; callers measure reranking as a whole.
        self._passes = Passes(engine, max_waiting_texts, Meter())

    @property
    def identity(self) -> str:
        model = self._engine.model
        return f"{model.name}@{model.revision} {self._engine.precision}"

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        return await self._score(query, passages, lane, urgent=False)

    async def check(self) -> None:
        """Score one short pair ahead of all waiting work. Raises EngineUnavailable if the score is not finite."""
        [score] = await self._score("health", ["health"], Lane.INTERACTIVE, urgent=True)
        if not np.isfinite(score):
            raise EngineUnavailable(f"{self._engine.model.name} gave the score {score}")

    def close(self) -> None:
        """Wait for running passes; waiting calls fail with EngineUnavailable. Idempotent."""
        self._passes.close()

    async def _score(self, query: str, passages: Sequence[str], lane: Lane, *, urgent: bool) -> Vector:
        encodings = await asyncio.to_thread(self._engine.tokenizer.encode_pairs, query, passages)
        return (await self._passes.infer(encodings, lane, urgent=urgent))[:, 0]


def load_rerankers(settings: Settings) -> dict[str, LocalReranker]:
    """A reranker for each search profile that has a `rerank_model`; profiles with the same model use the same one.
    Raises ConfigurationError if a model is missing or is not a cross-encoder, EngineUnavailable if loading fails. Both
    messages name the profile."""
    loaded: dict[str, LocalReranker] = {}  # by path and revision
    rerankers: dict[str, LocalReranker] = {}
    for name, profile in settings.search.profiles.items():
        if profile.rerank_model is None:
            continue
        with _of_profile(name):
            model = _resolve(profile, settings)
            key = f"{model.path} {model.revision}"
            if key not in loaded:
                loaded[key] = LocalReranker(_load(model, settings.embedding), settings.batching.max_waiting)
            rerankers[name] = loaded[key]
    return rerankers


def prepare_rerankers(settings: Settings) -> None:
    """Fetch and convert the models, which is needed once per machine and model. Raises as `load_rerankers`."""
    for name, profile in settings.search.profiles.items():
        if profile.rerank_model is not None:
            with _of_profile(name):
                prepare_model(_arithmetic(settings.embedding), _resolve(profile, settings))


def _resolve(profile: SearchProfile, settings: Settings) -> Model:
    assert profile.rerank_model is not None
    return resolve_cross_encoder(profile.rerank_model, profile.rerank_revision, settings.data_dir)


def _load(model: Model, settings: EmbeddingSettings) -> Engine:
    return Engine(model, load_tokenizer(model), load_backend(_arithmetic(settings), model), settings.max_batch_tokens)


def _arithmetic(settings: EmbeddingSettings) -> EmbeddingSettings:
    """The engine and precision of embedding, except that `auto` never means int8: its effect on rerankers has not been
    measured."""
    if settings.engine != "openvino":
        return settings
    return settings.model_copy(update={"precision": choose_precision(settings.precision, cpu_flags() - INT8_FLAGS)})


@contextmanager
def _of_profile(name: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"rerank_model of search profile {name!r}: {error}") from error
    except PlatformError as error:
        raise type(error)(f"rerank_model of search profile {name!r}: {error}") from error
