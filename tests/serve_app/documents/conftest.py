from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest

from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import ModelTokenizer, load_tokenizer
from serve_app.ports import Tokenizer
from serve_app.settings import EmbeddingSettings


@cache
def default_tokenizer() -> ModelTokenizer:
    """The default model's own, read from its package: properties and fixtures share one."""
    with tempfile.TemporaryDirectory() as data_dir:
        return load_tokenizer(resolve_model(EmbeddingSettings(), Path(data_dir)))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return default_tokenizer()
