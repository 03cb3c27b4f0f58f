from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.embedding.models import resolve_model
from serve_app.settings import CacheSettings, EmbeddingSettings, Settings
from tests.services import missing
from tests.tiny_model import tiny_model

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="session")
def settings(ray_cluster: str, model_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data folder of its own, so one store for all tests here, which has the converted model."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "models").symlink_to(model_data_dir / "models")
    return Settings(data_dir=data_dir)


@pytest.fixture(scope="session")
def two_models(settings: Settings, model_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a service that loads a second model, too."""
    default = resolve_model(EmbeddingSettings(), model_data_dir)
    second = tiny_model(default.path, tmp_path_factory.mktemp("second-model"), max_tokens=256)
    off = {"enabled": False}  # a process opens these once, and has several gateways here
    cache = CacheSettings.model_validate({"l2": off, "l4": off})
    embedding = EmbeddingSettings(further_models=(str(second),), threads=1)
    return settings.model_copy(update={"embedding": embedding, "cache": cache})


@pytest.fixture(scope="session")
def cranfield() -> Path:
    """The whole judged set, which lies beside the checkout and not in it."""
    if not SHARED.is_dir():
        pytest.skip(f"the Cranfield set is not in the repository, and there is no {SHARED}")
    folder = SHARED / "data" / "cranfield"
    return folder if folder.is_dir() else missing(f"the Cranfield set is not at {folder}")
