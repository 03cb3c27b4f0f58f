from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from serve_app.api.app import build_app
from serve_app.errors import StoreLocked
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from tests.serve_app.api.replica import client_of, make_services, settings_with


async def well() -> None: ...


async def locked() -> None:
    raise StoreLocked("another process owns the folder")


async def broken() -> None:
    raise KeyError("secret")


async def silent() -> None:
    await asyncio.Event().wait()


async def test_ready_asks_the_real_store(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/ready"):
        response = await client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": {"store": "ok"}})


@pytest.mark.parametrize(
    ("check", "says"),
    [(locked, "another process owns the folder"), (broken, "failed: KeyError"), (silent, "no answer within 0.05 s")],
)
async def test_says_which_part_is_not(
    settings: Settings, embedder: Embedder, store: VectorStore, check: Callable[[], Awaitable[None]], says: str
) -> None:
    impatient = settings_with(settings.data_dir, health_timeout_s=0.05)
    services = make_services(impatient, embedder, store, checks={"engine": well, "store": check})
    async with client_of(build_app(services)) as client:
        live, response = await client.get("/health/live"), await client.get("/health/ready")
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    problem = response.json()
    assert problem["checks"] == {"engine": "ok", "store": says}
    assert problem["detail"] == f"store: {says}"
