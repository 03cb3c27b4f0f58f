"""The pool's deployment as a plain class, and the arguments that `main` binds to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.serve import Application

from serve_app.deployments.embedder import EmbedderDeployment
from serve_app.errors import Overloaded
from serve_app.main import AppArguments, app
from serve_app.settings import EmbeddingSettings
from serve_app.types import Embeddings, Lane


async def test_what_is_beyond_max_waiting_is_refused_and_no_other_lane(ray_cluster: str, model_data_dir: Path) -> None:
    embedder = EmbedderDeployment(EmbeddingSettings(precision="fp32", threads=1), model_data_dir, max_waiting_texts=10)
    upload, another, search = await asyncio.gather(
        embedder.embed(["text"] * 300, Lane.BULK),  # several passes; taken, for nothing waits yet
        embedder.embed(["text"], Lane.BULK),
        embedder.embed(["text"], Lane.INTERACTIVE),
    )
    assert isinstance(another, Overloaded)
    assert isinstance(upload, Embeddings) and isinstance(search, Embeddings)


def test_the_setting_reaches_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AIDOCS_EMBEDDING__PLACEMENT", "pooled")
    monkeypatch.setenv("AIDOCS_BATCHING__MAX_WAITING", "7")
    monkeypatch.setenv("AIDOCS_EMBEDDING__FURTHER_MODELS", '["another"]')
    pool, another = bound_arguments(app(AppArguments()))[1]
    assert bound_arguments(pool)[1:] == (tmp_path, 7)
    assert bound_arguments(another)[0].model == "another"


def bound_arguments(application: Application) -> tuple[Any, ...]:
    arguments: Any = application._bound_deployment.init_args  # Ray's annotation means one argument
    return tuple(arguments)
