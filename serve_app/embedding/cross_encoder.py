"""Cross-encoders: models that read a query and a passage together and answer with one score (Nogueira and Cho, Passage
re-ranking with BERT, 2019). The engine, its passes and its lanes are those of embedding."""

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
        """max_waiting_texts: in each lane."""
        self._engine = engine
        # Metered as a whole, by who asks: its passes are not those that the stages of embedding count.
        self._passes = Passes(engine, max_waiting_texts, Meter())

    @property
    def identity(self) -> str:
        model = self._engine.model
        return f"{model.name}@{model.revision} {self._engine.precision}"

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        return await self._score(query, passages, lane, urgent=False)

    async def check(self) -> None:
        """One short pair, before all that waits. Raises EngineUnavailable if the engine does not answer rightly."""
        [score] = await self._score("health", ["health"], Lane.INTERACTIVE, urgent=True)
        if not np.isfinite(score):
            raise EngineUnavailable(f"{self._engine.model.name} gave the score {score}")

    def close(self) -> None:
        """Waits for the passes that are running; calls that wait get EngineUnavailable. Idempotent."""
        self._passes.close()

    async def _score(self, query: str, passages: Sequence[str], lane: Lane, *, urgent: bool) -> Vector:
        encodings = await asyncio.to_thread(self._engine.tokenizer.encode_pairs, query, passages)
        return (await self._passes.infer(encodings, lane, urgent=urgent))[:, 0]


def load_rerankers(settings: Settings) -> dict[str, LocalReranker]:
    """By search profile, for those with a `rerank_model`; profiles with the same one share it. Raises
    ConfigurationError, which names the profile, for a model that is missing or cannot be one, EngineUnavailable."""
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
    """What is done once per machine and model: fetch it and convert it. Raises as `load_rerankers`."""
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
    """Engine and precision of the embedding; but `auto` is never int8, of which nobody measured what it does here."""
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
