"""Prefetching over HTTP: the next page is ready where pages are turned, and the app ends prefetches when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.services import Services
from serve_app.errors import PlatformError
from serve_app.ports import Embedder, VectorStore
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.settings import PrefetchSettings, Settings
from tests.serve_app.api.replica import make_services
from tests.serve_app.telemetry.counted import counted

SEARCH = "/v1/collections/zoo/search"
WAIT_S = 10.0


@pytest.fixture
def services(settings: Settings, embedder: Embedder, store: VectorStore) -> Services:
    """With prefetching, which is off by default."""
    enabled = settings.model_copy(update={"prefetch": PrefetchSettings(enabled=True)})
    return make_services(enabled, embedder, store)


async def write(client: httpx.AsyncClient, text: str) -> None:
    body = {"documents": [{"id": text, "text": text}]}
    assert (await client.post("/v1/collections/zoo/documents", json=body)).status_code == 200


async def tier(client: httpx.AsyncClient, query: str, page: int = 0) -> str:
    response = await client.post(SEARCH, json={"query": query, "limit": 1, "offset": page})
    assert response.status_code == 200
    return str(response.json()["cache"])


async def test_the_next_page_is_ready_where_pages_are_turned(client: httpx.AsyncClient, services: Services) -> None:
    await write(client, "Cats purr softly.")
    await write(client, "Cats sleep.")
    for query in ("how do cats sound", "do cats sleep at night"):
        assert [await tier(client, query, page) for page in (0, 1)] == ["miss"] * 2
    await until_prefetched()
    await write(client, "Dogs bark.")  # answers from before are stale
    assert await tier(client, "are cats quiet") == "miss"
    await until_prefetched()
    assert await tier(client, "are cats quiet", 1) == "l1"
    assert counted(services.meter, "aidocs_prefetches_useful_total") == {"": 1}
    assert counted(services.meter, "aidocs_requests_total", route="searches", outcome="ok") == {"": 6}


async def until_prefetched() -> None:
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*prefetches())


async def test_the_app_ends_prefetches_when_it_ends(
    client: httpx.AsyncClient, app: FastAPI, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    query_batch, gate, asked = store.query_batch, asyncio.Event(), 0

    async def second_waits(queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        nonlocal asked
        asked += 1
        if asked == 2:
            await gate.wait()
        return await query_batch(queries)

    await write(client, "Cats purr softly.")
    await write(client, "Cats sleep.")
    async with app.router.lifespan_context(app):
        for page in (0, 1):
            await tier(client, "cats", page)
        await write(client, "Dogs bark.")
        monkeypatch.setattr(store, "query_batch", second_waits)
        await tier(client, "cats")
        assert prefetches()
    assert not prefetches()
    gate.set()


def prefetches() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "prefetch"]
