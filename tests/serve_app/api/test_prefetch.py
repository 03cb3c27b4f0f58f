"""Sessions over HTTP: a search that often follows another is prefetched, and an invalid session id is refused."""

from __future__ import annotations

import asyncio
import time
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


async def tier(client: httpx.AsyncClient, query: str, session: str) -> str:
    response = await client.post(SEARCH, json={"query": query}, headers={"X-Session-Id": session})
    assert response.status_code == 200
    return str(response.json()["cache"])


async def test_what_often_follows_in_sessions_is_ready(client: httpx.AsyncClient, services: Services) -> None:
    await write(client, "Cats purr softly.")
    for session in ("a", "b"):
        for query in ("how do cats sound", "do cats sleep at night"):
            await tier(client, query, session)
    await write(client, "Dogs bark.")  # no answer from before is found after this
    assert await tier(client, "how do cats sound", "c") == "miss"
    deadline_s = time.monotonic() + WAIT_S
    while not counted(services.meter, "aidocs_prefetches_total", kind="query", outcome="computed")[""]:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)
    assert await tier(client, "do cats sleep at night", "c") == "l1"
    assert counted(services.meter, "aidocs_prefetches_useful_total", kind="query") == {"": 1}
    assert counted(services.meter, "aidocs_requests_total", route="searches", outcome="ok") == {"": 6}


@pytest.mark.parametrize("session", ["", "two words", "x" * 129, "é", "tab\there"])
async def test_what_is_no_session_id_is_refused(client: httpx.AsyncClient, session: str) -> None:
    await write(client, "Cats purr softly.")
    headers = [(b"X-Session-Id", session.encode())]
    response = await client.post(SEARCH, json={"query": "cats"}, headers=headers)
    assert response.status_code == 422
    problem = response.json()
    assert problem["errors"] == [{"parameter": "X-Session-Id", "detail": "must be 1 to 128 visible ASCII characters"}]
    assert problem["detail"] == "X-Session-Id: must be 1 to 128 visible ASCII characters"


async def test_the_longest_session_id_is_taken(client: httpx.AsyncClient) -> None:
    await write(client, "Cats purr softly.")
    assert await tier(client, "cats", "~" * 128) == "miss"


def test_the_header_is_documented(app: FastAPI) -> None:
    operations = app.openapi()["paths"]
    named = [p for p in operations["/v1/collections/{collection}/search"]["post"]["parameters"] if p["in"] == "header"]
    session = next(p for p in named if p["name"] == "X-Session-Id")
    assert session["required"] is False
    assert "neither stored nor logged" in session["description"]


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
    async with app.router.lifespan_context(app):
        for session in "abc":
            for query in ("cats", "purring"):
                await tier(client, query, session)
        await write(client, "Dogs bark.")
        monkeypatch.setattr(store, "query_batch", second_waits)
        await tier(client, "cats", "d")
        assert prefetches()
    assert not prefetches()
    gate.set()


def prefetches() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "prefetch"]
