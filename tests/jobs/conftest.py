from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.settings import Settings


@pytest.fixture(scope="session")
def settings(ray_cluster: str, model_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data folder of its own, so one store for all tests here, which has the converted model."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "models").symlink_to(model_data_dir / "models")
    return Settings(data_dir=data_dir)
