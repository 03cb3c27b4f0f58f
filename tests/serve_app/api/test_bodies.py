"""Invalid bodies on every route that accepts a body. None may cause a 5xx."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.app import build_app
from serve_app.api.bodies import parse_json, require_few_values
from serve_app.errors import InvalidInput, MalformedJson
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


async def test_many_items_are_refused_before_anything_is_made_of_them(client: httpx.AsyncClient) -> None:
    for path, name, item in (
        ("/v1/collections/c/documents", "documents", {"id": "a", "text": "b"}),
        ("/v1/collections/c/search:batch", "queries", {"query": "q"}),
        ("/v1/embeddings", "input", "a"),
    ):
        answer = await client.post(path, json={name: [item] * 20_000})
        assert answer.status_code == 422
        assert f"{name} has 20000" in answer.text


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("item", ["[]", "{}", "1", '"a"', '{"a":1}'])
async def test_millions_of_nested_values_are_refused_before_they_are_parsed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, route: str, item: str
) -> None:
    monkeypatch.setattr("serve_app.api.bodies.parse_json", lambda body: pytest.fail("parsed"))
    body = '{"filter": {"x": [' + ",".join([item] * 250_000) + "]}}"
    response = await client.post(route, content=body, headers=JSON)
    assert response.status_code == 422
    assert "too many JSON values: at most 200000" in response.text


TEXT = st.text(st.sampled_from('",[{\\\n:é🔑a'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=40
)


def count(value: object, empties: int = 1) -> int:
    """Values in this one, itself too. empties: what an empty list or object counts."""
    inner = value if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else None
    if inner is None:
        return 1
    return 1 + sum(count(one, empties) for one in inner) if inner else empties


@given(value=VALUES, escaped=st.booleans())
def test_values_are_counted_whatever_strings_have_in_them(value: object, escaped: bool) -> None:
    body = json.dumps(value).encode() if escaped else orjson.dumps(value)
    require_few_values(body, max(count(value, empties=2), 1))
    if (fewer := count(value) - 1) > 0:
        with pytest.raises(InvalidInput):
            require_few_values(body, fewer)


async def test_a_text_of_commas_is_one_value(client: httpx.AsyncClient) -> None:
    text = '1,[2],{3}\\",' * 300_000  # a table is full of them; over its own limit, so that it is not embedded
    response = await client.post("/v1/collections/c/documents", json={"documents": [{"id": "a", "text": text * 2}]})
    assert response.status_code == 200
    assert "characters; at most" in response.json()["failed"][0]["error"]
