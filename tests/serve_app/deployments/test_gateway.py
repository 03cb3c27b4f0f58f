"""The gateway as a plain class, without Serve. Its store is the real actor; its engine is real or a pool's handle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.deployments.embedder import EmbedderDeployment
from serve_app.deployments.gateway import GatewayDeployment
from serve_app.embedding.models import resolve_model
from serve_app.errors import EngineUnavailable
from serve_app.search.release import Release
from serve_app.settings import ApiSettings, CacheSettings, EmbeddingSettings, Settings, StoreSettings
from tests.tiny_model import tiny_model

START_TIMEOUT_S = 25.0
DOCUMENTS = {"documents": [{"id": "cats", "text": "Cats purr softly."}, {"id": "dogs", "text": "Dogs bark loudly."}]}


class Pool:
    """A handle on one embedder, as far as the gateway uses it: `embed.remote(…)`."""

    def __init__(self, embedder: Any) -> None:
        self.embed = self
        self.remote = embedder.embed


@pytest.fixture
def settings_of(ray_cluster: str, tmp_path: Path, model_data_dir: Path) -> Callable[..., Settings]:
    (tmp_path / "models").symlink_to(model_data_dir / "models")
    return lambda **embedding: Settings(
        data_dir=tmp_path,
        embedding=EmbeddingSettings(threads=1, **embedding),
        # The store's process starts on the first call, which on a busy machine takes seconds.
        api=ApiSettings(health_timeout_s=START_TIMEOUT_S),
        store=StoreSettings(timeout_s=START_TIMEOUT_S),
        cache=CacheSettings.model_validate({"l2": {"folder": tmp_path / "shared"}}),
    )


@asynccontextmanager
async def client_of(gateway: GatewayDeployment) -> AsyncIterator[httpx.AsyncClient]:
    app = gateway.__serve_build_asgi_app__()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


async def answer(gateway: GatewayDeployment) -> dict[str, Any]:
    async with client_of(gateway) as client:
        ready = await client.get("/health/ready")
        assert ready.json() == {"status": "ready", "checks": {"engine": "ok", "store": "ok"}}
        upload = await client.post("/v1/collections/zoo/documents", json=DOCUMENTS)
        assert upload.json()["indexed"] == 2, upload.text
        found = await client.post("/v1/collections/zoo/search", json={"query": "a cat that purrs"})
        body: dict[str, Any] = found.json()
        return body


async def test_local_it_names_the_precision_that_its_own_engine_computes_in(
    settings_of: Callable[..., Settings], model_data_dir: Path
) -> None:
    settings = settings_of(precision="fp32")
    gateway = GatewayDeployment(settings)
    await gateway.check_health()
    found = await answer(gateway)
    assert found["hits"][0]["document_id"] == "cats"
    space = resolve_model(settings.embedding, model_data_dir).space
    assert found["release"] == Release.of(settings, space, "fp32").name


async def test_pooled_it_has_no_engine_and_names_the_precision_as_configured(
    settings_of: Callable[..., Settings], model_data_dir: Path
) -> None:
    embedder = EmbedderDeployment(EmbeddingSettings(precision="fp32", threads=1), model_data_dir, 100)
    settings = settings_of(placement="pooled")
    gateway = GatewayDeployment(settings, [Pool(embedder)])  # type: ignore[arg-type]  # not Serve's handle
    await gateway.check_health()
    found = await answer(gateway)
    assert found["hits"][0]["document_id"] == "cats"
    space = resolve_model(settings.embedding, model_data_dir).space
    assert found["release"] == Release.of(settings, space, "auto").name


async def test_pooled_it_is_ready_when_the_pool_of_each_model_is(
    settings_of: Callable[..., Settings], model_data_dir: Path, tmp_path: Path
) -> None:
    class Gone:
        async def embed(self, *_: object) -> EngineUnavailable:
            return EngineUnavailable("the second pool is gone")

    embedder = EmbedderDeployment(EmbeddingSettings(precision="fp32", threads=1), model_data_dir, 100)
    default = resolve_model(EmbeddingSettings(), model_data_dir)
    second = tiny_model(default.path, tmp_path / "second", max_tokens=256)
    settings = settings_of(placement="pooled", further_models=(str(second),))
    gateway = GatewayDeployment(settings, [Pool(embedder), Pool(Gone())])  # type: ignore[arg-type]
    async with client_of(gateway) as client:
        ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert "the second pool is gone" in ready.json()["checks"]["engine"]
