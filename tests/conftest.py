"""What many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.embedding.artifacts import ensure_artifact
from serve_app.embedding.models import resolve_model
from serve_app.settings import EmbeddingSettings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never go to the network

# A folder kept between runs, so that the default model is converted once. Taken out of the environment, where
# load_settings would refuse the name.
TEST_CACHE = os.environ.pop("AIDOCS_TEST_CACHE", None)


@pytest.fixture(scope="session")
def model_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir in which the default model is already converted (fp32)."""
    data_dir = Path(TEST_CACHE).resolve() if TEST_CACHE else tmp_path_factory.mktemp("models")
    ensure_artifact(resolve_model(EmbeddingSettings(), data_dir), "fp32")
    return data_dir
