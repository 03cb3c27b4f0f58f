"""Back-pressure: each kind of traffic refuses excess requests immediately, and clients can set a timeout."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from tokenizers import Encoding

from serve_app.api.app import build_app
from serve_app.api.timeouts import TIMEOUT_HEADER
from serve_app.api.traffic import Traffic, load_of, make_limiters, slots_of
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.errors import Overloaded
from serve_app.ports import Embedder, VectorStore
from serve_app.search.batched_embedder import BatchedEmbedder
from serve_app.settings import ApiSettings, Settings
from serve_app.types import Embeddings, Lane, Vector, VectorSpace
from tests.serve_app.api.replica import client_of, make_services, settings_with

WAIT_S = 10.0
EMBED = ("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": "x"})
SEARCH = ("/v1/collections/c/search", {"query": "x"})
UPLOAD = ("/v1/collections/c/documents", {"documents": [{"id": "a", "text": "x"}]})


class GatedEmbedder:
    """The real one, behind a gate; keeps the texts that it was given."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.gate = asyncio.Event()
        self.called = asyncio.Event()
        self.texts: list[str] = []

    @property
    def space(self) -> VectorSpace:
        return self._embedder.space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.texts += texts
        self.called.set()
        await self.gate.wait()
        return await self._embedder.embed(texts)


class GatedEngine:
    """The real one, whose passes wait at a gate; keeps the tokens of each text."""

    passes_at_once = 1

    def __init__(self, engine: EmbeddingEngine) -> None:
        self._engine = engine
        self.gate = threading.Event()
        self.seen: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, encodings: Sequence[Encoding]) -> Vector:
        self.seen += [encoding.ids for encoding in encodings]
        assert self.gate.wait(WAIT_S)
        return self._engine.infer(encodings)


@pytest.fixture
def gated(embedder: Embedder) -> GatedEmbedder:
    return GatedEmbedder(embedder)


def narrow(data_dir: Path) -> Settings:
    """One at once, of each kind."""
    return settings_with(data_dir, min_concurrency=1, max_concurrency=1, max_concurrent_uploads=1)


async def never_sent() -> AsyncIterator[bytes]:
    pytest.fail("read a body that is refused anyway")
    yield b""


def in_flight(app: FastAPI) -> int:
    return sum(limiter.in_flight for limiter in app.state.limiters.values())


@pytest.mark.parametrize("busy", [EMBED, SEARCH, UPLOAD], ids=["embed", "search", "upload"])
async def test_beyond_the_limit_it_is_429_at_once(
    settings: Settings, gated: GatedEmbedder, store: VectorStore, busy: tuple[str, Any]
) -> None:
    app = build_app(make_services(narrow(settings.data_dir), gated, store))
    path, body = busy
    async with asyncio.timeout(WAIT_S), client_of(app) as client:
        first = asyncio.create_task(client.post(path, json=body))
        await gated.called.wait()
        refused = await client.post(path, json=body)  # the first is still at work: this does not wait for it
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        if path == EMBED[0]:
            assert refused.json()["error"]["type"] == "rate_limit_error"
        else:
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"] == "urn:ai-docs:error:overloaded"
        assert "1 of 1" in refused.text
        unread = await client.post(path, content=never_sent(), headers={"Content-Type": "application/json"})
        assert unread.status_code == 429
        for free in ("/health/live", "/health/ready", "/docs", "/openapi.json", "/", "/v1/models", "/v1/collections"):
            assert (await client.get(free)).status_code == 200
        gated.gate.set()
        assert (await first).status_code in (200, 404)
        assert (await client.post(path, json=body)).status_code in (200, 404)
    assert in_flight(app) == 0


async def test_what_is_kept_is_answered_beyond_the_limit(
    settings: Settings, embedder: Embedder, store: VectorStore
) -> None:
    app = build_app(make_services(narrow(settings.data_dir), embedder, store))
    async with client_of(app) as client:
        assert (await client.post(UPLOAD[0], json=UPLOAD[1])).status_code == 200
        assert (await client.post(SEARCH[0], json=SEARCH[1])).json()["cache"] == "miss"
        with app.state.limiters[Traffic.SEARCHES].admit():
            assert (await client.post(SEARCH[0], json=SEARCH[1])).json()["cache"] == "l1"
            assert (await client.post(SEARCH[0], json={"query": "y"})).status_code == 429
            long = {"query": "x " * 300}
            assert (await client.post(SEARCH[0], json=long)).status_code == 429


def test_the_load_is_that_of_the_kind_nearest_to_its_limit() -> None:
    limiters = make_limiters(ApiSettings())
    assert load_of(limiters) == 0
    with limiters[Traffic.SEARCHES].admit(), limiters[Traffic.UPLOADS].admit():
        assert load_of(limiters) == 1 / ApiSettings().max_concurrent_uploads


async def test_uploads_take_no_slot_of_searches(settings: Settings, gated: GatedEmbedder, store: VectorStore) -> None:
    app = build_app(make_services(narrow(settings.data_dir), gated, store))
    async with asyncio.timeout(WAIT_S), client_of(app) as client:
        upload = asyncio.create_task(client.post(UPLOAD[0], json=UPLOAD[1]))
        await gated.called.wait()
        search = asyncio.create_task(client.post(SEARCH[0], json=SEARCH[1] | {"mode": "sparse"}))
        assert (await search).status_code == 404  # the store answers: there is no such collection yet
        gated.gate.set()
        assert (await upload).status_code == 200


async def require_late_work_dropped(app: FastAPI, is_busy: Callable[[], bool], let_go: Callable[[], None]) -> None:
    """While the engine is busy with `first`, two requests come whose time is over before it is free."""
    async with asyncio.timeout(WAIT_S), client_of(app) as client:
        first = asyncio.create_task(client.post(EMBED[0], json=EMBED[1] | {"input": "first"}))
        while not is_busy():
            assert not first.done()
            await asyncio.sleep(0.005)
        for path, body in ((EMBED[0], EMBED[1] | {"input": "late"}), (SEARCH[0], {"query": "late"})):
            late = await client.post(path, json=body, headers={TIMEOUT_HEADER: "50"})
            assert late.status_code == 504
            assert "not finished within 0.05 s" in late.text
        let_go()
        assert (await first).status_code == 200
        last = await client.post(EMBED[0], json=EMBED[1] | {"input": "last"}, headers={TIMEOUT_HEADER: "9000"})
        assert last.status_code == 200
    assert in_flight(app) == 0


async def test_expired_work_never_reaches_the_pool(
    settings: Settings, gated: GatedEmbedder, store: VectorStore
) -> None:
    app = build_app(make_services(settings, BatchedEmbedder(gated, settings.batching), store))
    await require_late_work_dropped(app, gated.called.is_set, gated.gate.set)
    assert gated.texts == ["first", "last"]


async def test_expired_work_never_reaches_the_engine(settings: Settings, store: VectorStore) -> None:
    engine = GatedEngine(EmbeddingEngine.load(settings.embedding, settings.data_dir))
    local = LocalEmbedder(cast(EmbeddingEngine, engine))
    app = build_app(make_services(settings, local, store))
    await require_late_work_dropped(app, lambda: bool(engine.seen), engine.gate.set)
    local.close()
    assert engine.seen == [encoding.ids for encoding in engine.tokenizer.encode(["first", "last"])]


@pytest.mark.parametrize("value", ["0", "-1", "30001", "1.5", "1e3", "soon", "", "９", "9" * 5_000])
async def test_a_timeout_that_cannot_be_is_422(client: httpx.AsyncClient, value: str) -> None:
    headers = {TIMEOUT_HEADER.encode(): value.encode()}
    response = await client.post(SEARCH[0], json=SEARCH[1], headers=headers)
    assert response.status_code == 422
    said = {"parameter": TIMEOUT_HEADER, "detail": "must be a whole number of milliseconds from 1 to 30000"}
    assert response.json()["errors"] == [said]
    response = await client.post(EMBED[0], json=EMBED[1], headers=headers)
    assert response.json()["error"]["param"] == TIMEOUT_HEADER


async def test_uploads_may_take_longer(client: httpx.AsyncClient) -> None:
    assert (await client.post(UPLOAD[0], json=UPLOAD[1], headers={TIMEOUT_HEADER: "300000"})).status_code == 200
    assert (await client.post(UPLOAD[0], json=UPLOAD[1], headers={TIMEOUT_HEADER: "300001"})).status_code == 422


def test_the_document_tells_of_the_header(app: FastAPI) -> None:
    longest = {
        (method, path): parameter["schema"]["maximum"]
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == TIMEOUT_HEADER
    }
    assert longest.pop(("post", "/v1/collections/{collection}/documents")) == 300_000
    assert set(longest.values()) == {30_000}
    assert {path for _, path in longest} == {
        "/v1/embeddings",
        "/v1/collections",
        "/v1/collections/{collection}",
        "/v1/collections/{collection}/documents",
        "/v1/collections/{collection}/documents/{id}",
        "/v1/collections/{collection}/search",
        "/v1/collections/{collection}/search:batch",
    }


def test_serve_gives_a_replica_more_than_all_kinds_together_may_be() -> None:
    """Else the next request waits in Serve's queue, a health check too, and is not refused."""
    settings = Settings()
    widest = settings.api.model_copy(update={"min_concurrency": settings.api.max_concurrency})
    admitted = 0
    with ExitStack() as at_work:
        for limiter in make_limiters(widest).values():
            with suppress(Overloaded):
                while True:
                    at_work.enter_context(limiter.admit())
                    admitted += 1
    assert admitted == settings.api.most_admitted < settings.serving.max_ongoing_requests


@pytest.mark.parametrize(
    ("body", "slots"),
    [
        (None, 1),
        ([], 1),
        ({"input": "x"}, 1),
        ({"input": []}, 1),
        ({"input": ["x"] * 64}, 1),
        ({"input": ["x"] * 65}, 2),
        ({"input": ["x"] * 2_048}, 32),
        ({"queries": [{}] * 4}, 1),
        ({"queries": [{}] * 100}, 25),
    ],
)
def test_many_texts_or_queries_weigh_more(body: Any, slots: int) -> None:
    assert slots_of(body, ApiSettings()) == slots
