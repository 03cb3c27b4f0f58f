"""The pooled placement, on Serve's default proxy: gateway → embedder deployment, one of which is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.local.ports import free_port
from serve_app.settings import EmbeddingSettings
from tests.integration.running import http


@pytest.fixture(scope="module")
def url(ray_cluster: str, model_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from ray import serve

    from serve_app.main import AppArguments, app

    data_dir = tmp_path_factory.mktemp("pooled")
    (data_dir / "models").symlink_to(model_data_dir / "models")
    port = free_port()
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AIDOCS_DATA_DIR", str(data_dir))
        environ.setenv("AIDOCS_EMBEDDING__PLACEMENT", "pooled")
        environ.setenv("AIDOCS_CACHE__L2__FOLDER", str(data_dir / "shared"))
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app(AppArguments()), name="pooled", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def embed(url: str, texts: list[str]) -> Any:
    status, answer = http("POST", f"{url}/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": texts})
    assert status == 200, answer
    return np.array([item["embedding"] for item in answer["data"]])


def texts(about: str) -> list[str]:
    """New ones, so that no cache has their vectors."""
    return [f"a text about {about} number {number}" for number in range(100)]


def embedders() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "ServeReplica:pooled:embedder" in cmdline(p)]


def cmdline(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_the_engine_is_in_the_pool_and_a_killed_embedder_is_replaced(url: str, model_data_dir: Path) -> None:
    engine = EmbeddingEngine.load(EmbeddingSettings(), model_data_dir)
    assert np.allclose(embed(url, texts("lions")), engine.embed(texts("lions")).vectors, atol=1e-4)
    assert http("GET", f"{url}/health/ready")[0] == 200
    [embedder] = embedders()
    os.kill(embedder.pid, signal.SIGKILL)
    found = embed(url, texts("tigers"))  # waits for the next one
    assert np.allclose(found, engine.embed(texts("tigers")).vectors, atol=1e-4)
    assert [p.pid for p in embedders()] != [embedder.pid]
