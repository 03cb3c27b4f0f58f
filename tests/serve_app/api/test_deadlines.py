"""Time limits, clients that disconnect, and internal errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from serve_app.api.app import build_app
from serve_app.errors import Overloaded
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from serve_app.types import Embeddings, Lane, VectorSpace
from tests.serve_app.api.replica import client_of, live_server, make_services, settings_with

EMBED = {"model": "all-MiniLM-L6-v2", "input": "x"}
WAIT_S = 10.0


class EndlessEmbedder:
    """Never answers; counts who waits and who was cancelled."""

    space = VectorSpace("all-MiniLM-L6-v2", "r", 384)

    def __init__(self) -> None:
        self.waiting = self.cancelled = 0

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


class FailingEmbedder(EndlessEmbedder):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        raise self._error


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/embeddings", EMBED, "request_timeout_s"),
        ("/v1/collections/c/search", {"query": "x"}, "request_timeout_s"),
        ("/v1/collections/c/documents", {"documents": [{"id": "a", "text": "x"}]}, "upload_timeout_s"),
    ],
)
async def test_too_slow_is_504_and_the_work_ends(
    settings: Settings, store: VectorStore, path: str, body: dict[str, Any], limit: str
) -> None:
    endless = EndlessEmbedder()
    services = make_services(settings_with(settings.data_dir, **{limit: 0.2}), endless, store, embedder=endless)
    async with client_of(build_app(services)) as client:
        response = await client.post(path, json=body)
        assert response.status_code == 504
        assert "not finished within 0.2 s" in response.text
        await until(lambda: endless.waiting == endless.cancelled == 1)


async def test_client_that_leaves_ends_the_work(settings: Settings, store: VectorStore) -> None:
    endless = EndlessEmbedder()
    app = build_app(make_services(settings, endless, store, embedder=endless))
    with live_server(app) as (host, port):
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=WAIT_S) as client:
            call = asyncio.create_task(client.post("/v1/embeddings", json=EMBED))
            await until(lambda: endless.waiting == 1)
            assert endless.cancelled == 0
            call.cancel()
            await until(lambda: endless.cancelled == 1)
            assert (await client.get("/health/live")).status_code == 200


async def test_client_that_leaves_while_it_sends(
    settings: Settings, embedder: Embedder, store: VectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    with live_server(build_app(make_services(settings, embedder, store))) as (host, port):
        _, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write((head + "Content-Length: 100\r\n\r\n{").encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=WAIT_S) as client:
            assert (await client.post("/v1/embeddings", json=EMBED)).status_code == 200
    assert "unexpected error" not in caplog.text


async def test_sender_that_never_ends_is_cut_off(settings: Settings, embedder: Embedder, store: VectorStore) -> None:
    services = make_services(settings_with(settings.data_dir, request_timeout_s=0.2), embedder, store)
    with live_server(build_app(services)) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write((head + "Content-Length: 100\r\n\r\n{").encode())
        async with asyncio.timeout(WAIT_S):
            assert b" 504 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_too_large_is_refused_before_it_was_sent(
    settings: Settings, embedder: Embedder, store: VectorStore
) -> None:
    with live_server(build_app(make_services(settings, embedder, store))) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write((head + "Content-Length: 20000000\r\n\r\n").encode())
        async with asyncio.timeout(WAIT_S):
            assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_fault_of_ours_is_500_without_internals(
    settings: Settings, store: VectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingEmbedder(ValueError("secret"))
    async with client_of(build_app(make_services(settings, failing, store))) as client:
        response = await client.post("/v1/collections/c/search", json={"query": "x"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "Traceback" in caplog.text
    assert "secret" in caplog.text


async def test_overloaded_says_when_to_come_back(settings: Settings, store: VectorStore) -> None:
    failing = FailingEmbedder(Overloaded("4096 requests are waiting; try again later"))
    async with client_of(build_app(make_services(settings, failing, store))) as client:
        for path, body in (("/v1/collections/c/search", {"query": "x"}), ("/v1/embeddings", EMBED)):
            response = await client.post(path, json=body)
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert "4096 requests are waiting" in response.text
