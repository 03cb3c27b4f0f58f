"""Fixtures: the default model, sentence-transformers as the reference, and tiny models of other kinds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import Model, resolve_model
from serve_app.settings import EmbeddingSettings
from serve_app.types import Vector
from tests.serve_app.embedding.texts import golden_texts
from tests.tiny_model import tiny_model

SavesModel = Callable[..., Path]


@pytest.fixture(scope="session")
def default_model(model_data_dir: Path) -> Model:
    return resolve_model(EmbeddingSettings(), model_data_dir)


@pytest.fixture(scope="session")
def engine(model_data_dir: Path) -> EmbeddingEngine:
    return EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), model_data_dir)


@pytest.fixture(scope="session")
def reference(default_model: Model) -> Vector:
    """Golden vectors: (n, dim), of `golden_texts`."""
    with warnings.catch_warnings(action="ignore"):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(default_model.path), device="cpu")
        return np.asarray(model.encode(list(golden_texts()), show_progress_bar=False), dtype=np.float32)


@pytest.fixture(scope="session")
def save_tiny_model(default_model: Model) -> SavesModel:
    return partial(tiny_model, default_model.path)
