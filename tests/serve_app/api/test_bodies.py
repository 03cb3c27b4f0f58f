"""Bodies that are not what they should be, on every route that takes one. Nothing of them may be a 5xx."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.api.app import build_app
from serve_app.api.bodies import parse_json
from serve_app.api.problems import MalformedJson
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from tests.serve_app.api.replica import client_of, make_services, settings_with

JSON = {"Content-Type": "application/json"}
ROUTES = [
    "/v1/embeddings",
    "/v1/collections/c/documents",
    "/v1/collections/c/search",
    "/v1/collections/c/search:batch",
]
MALFORMED = {
    "cut off": b'{"query": "x"',
    "trailing": b'{"query": "x"} y',
    "bare word": b"query",
    "NaN": b'{"query": "x", "diversity": NaN}',
    "infinity": b'{"query": "x", "diversity": Infinity}',
    "half a surrogate pair": b'{"query": "\\ud800"}',
    "not UTF-8": b'{"query": "\xff\xfe"}',
    "UTF-16": '{"query": "x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"query": "x"}',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"filter":' * 10_000 + b"1" + b"}" * 10_000,
    "endless number": b'{"limit": ' + b"9" * 100_000 + b"}",
    "control character": b'{"query": "\x00"}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json(body: bytes) -> None:
    with pytest.raises(MalformedJson, match=r"the body is not JSON: .* at line \d+ column \d+"):
        parse_json(body)


@pytest.mark.parametrize("route", ROUTES)
async def test_malformed_json_is_400(client: httpx.AsyncClient, route: str) -> None:
    for body in MALFORMED.values():
        response = await client.post(route, content=body, headers=JSON)
        assert response.status_code == 400
        assert "the body is not JSON" in response.text


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"text"', b"7", b"{}"])
async def test_not_the_object_that_is_needed_is_422(client: httpx.AsyncClient, route: str, body: bytes) -> None:
    response = await client.post(route, content=body, headers=JSON)
    assert response.status_code == 422


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
async def test_another_content_type_is_415(client: httpx.AsyncClient, route: str, content_type: str) -> None:
    response = await client.post(route, content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.text


async def test_parameters_of_the_content_type_are_accepted(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    body = b'{"model": "all-MiniLM-L6-v2", "input": "x"}'
    assert (await client.post("/v1/embeddings", content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_unknown_fields_are_refused(client: httpx.AsyncClient, route: str) -> None:
    response = await client.post(route, json={"surprise/~": 1})
    assert response.status_code == 422
    if "embeddings" not in route:
        assert {"pointer": "#/surprise~1~0", "detail": "unknown field"} in response.json()["errors"]


async def test_a_million_errors_are_not_reported_one_by_one(client: httpx.AsyncClient) -> None:
    many_fields = {f"f{i}": 0 for i in range(20_000)}
    for body in (many_fields, {"documents": [0] * 1_000_000}, {"documents": [many_fields]}):
        response = await client.post("/v1/collections/c/documents", json=body)
        assert response.status_code == 422
        assert len(response.content) < 10_000


class TestSize:
    @pytest.fixture
    async def client(
        self, settings: Settings, embedder: Embedder, store: VectorStore
    ) -> AsyncIterator[httpx.AsyncClient]:
        small = settings_with(settings.data_dir, max_body_bytes=1_000)
        async with client_of(build_app(make_services(small, embedder, store))) as client:
            yield client

    @pytest.mark.parametrize("route", ROUTES)
    async def test_too_large_by_its_own_declaration(self, client: httpx.AsyncClient, route: str) -> None:
        response = await client.post(route, content=b" " * 1_001, headers=JSON)
        assert response.status_code == 413
        assert "1000 bytes" in response.text

    @pytest.mark.parametrize("route", ROUTES)
    async def test_too_large_while_it_streams(self, client: httpx.AsyncClient, route: str) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 400
                yield b" " * 400

        response = await client.post(route, content=endless(), headers=JSON)
        assert response.status_code == 413
        assert sent == 1_200

    async def test_exactly_the_limit(self, client: httpx.AsyncClient) -> None:
        body = b'{"model": "all-MiniLM-L6-v2", "input": "x"}'.ljust(1_000)
        assert (await client.post("/v1/embeddings", content=body, headers=JSON)).status_code == 200


async def test_10_mb_pass_and_20_mb_do_not(client: httpx.AsyncClient) -> None:
    """Documents over their own limit, so that none of it is embedded."""

    async def upload(characters: int) -> httpx.Response:
        body = {"documents": [{"id": str(i), "text": "x" * (characters // 2)} for i in range(2)]}
        return await client.post("/v1/collections/c/documents", json=body)

    response = await upload(10_000_000)
    assert response.status_code == 200
    assert [item["id"] for item in response.json()["failed"]] == ["0", "1"]
    assert (await upload(20_000_000)).status_code == 413


async def test_a_million_items_are_refused_before_anything_is_made_of_them(client: httpx.AsyncClient) -> None:
    """They fit into the body's limit, and validating them would hold the event loop for seconds."""
    for path, name, item in (
        ("/v1/collections/c/documents", "documents", {"id": "a", "text": "b"}),
        ("/v1/collections/c/search:batch", "queries", {"query": "q"}),
        ("/v1/embeddings", "input", "a"),
    ):
        answer = await client.post(path, json={name: [item] * 200_000})
        assert answer.status_code == 422
        assert f"{name} has 200000" in answer.text
