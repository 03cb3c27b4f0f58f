from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from serve_app.api.app import build_app
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from serve_app.validation import INT64, MAX_METADATA_DEPTH
from tests.serve_app.api.replica import client_of, make_services, settings_with

DOCUMENTS = "/v1/collections/handbook/documents"
KEYS: dict[str, Any] = {
    "id": "security/keys.md",
    "title": "Rotating keys",
    "text": "# Keys\n\nKeys are rotated every 90 days.",
    "url": "https://intranet.example/keys",
    "metadata": {"team": "platform", "year": 2026, "tags": ["a", None, 1.5, True], "deep": {"er": {}}},
    "subject": "person-7",
}


async def put(client: httpx.AsyncClient, *documents: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(DOCUMENTS, json={"documents": documents})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def texts_found(client: httpx.AsyncClient, query: str) -> list[str]:
    response = await client.post("/v1/collections/handbook/search", json={"query": query})
    return [hit["text"] for hit in response.json()["hits"]]


async def test_comes_back_as_it_was_put_in(client: httpx.AsyncClient) -> None:
    assert await put(client, KEYS) == {"indexed": 1, "passages": 1, "unchanged": 0, "failed": []}
    assert (await client.get(f"{DOCUMENTS}/security/keys.md")).json() == KEYS


async def test_is_found_as_soon_as_200_arrives(client: httpx.AsyncClient) -> None:
    await put(client, KEYS)
    assert any("90 days" in text for text in await texts_found(client, "rotating keys"))


async def test_unchanged_the_second_time(client: httpx.AsyncClient) -> None:
    await put(client, KEYS)
    assert await put(client, KEYS) == {"indexed": 0, "passages": 0, "unchanged": 1, "failed": []}


async def test_changed_replaces(client: httpx.AsyncClient) -> None:
    await put(client, KEYS)
    assert (await put(client, KEYS | {"text": "Keys live for a week."}))["indexed"] == 1
    assert await texts_found(client, "keys") == ["Keys live for a week."]


async def test_delete(client: httpx.AsyncClient) -> None:
    await put(client, KEYS, KEYS | {"id": "other"})
    response = await client.delete(f"{DOCUMENTS}/security/keys.md")
    assert (response.status_code, response.json()) == (200, {"deleted": 1})
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"{DOCUMENTS}/security/keys.md")
        assert response.status_code == 404
        assert "security/keys.md" in response.json()["detail"]
    assert (await client.get(f"{DOCUMENTS}/other")).status_code == 200


@pytest.mark.parametrize("id", ["a/b/", "/a", "a b?c#d%2F", "ключ 🔑", "a:b@c;d=e&f", "x" * 512, "e\u0301"])
async def test_odd_ids(client: httpx.AsyncClient, id: str) -> None:
    await put(client, KEYS | {"id": id})
    path = f"{DOCUMENTS}/{quote(id, safe='/')}"
    assert (await client.get(path)).json()["id"] == id
    assert (await client.delete(path)).json() == {"deleted": 1}


@pytest.mark.parametrize("id", ["", "x" * 513, "a\x00b", "a\nb", "a\x7f"])
async def test_impossible_ids(client: httpx.AsyncClient, id: str) -> None:
    response = await client.post(DOCUMENTS, json={"documents": [KEYS, KEYS | {"id": id}]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/documents/1/id"
    assert (await client.get("/v1/collections")).json() == {"collections": []}
    response = await client.get(f"{DOCUMENTS}/{quote(id, safe='')}")
    assert response.status_code == 422


@pytest.mark.parametrize("character", ["%0a", "%0d", "%00", "%7f", "%c2%85"])
async def test_a_control_character_in_a_path_reaches_no_route(client: httpx.AsyncClient, character: str) -> None:
    """A line break at the end would fall away, and another document would be meant."""
    await put(client, KEYS | {"id": "a"})
    search: dict[str, Any] = {"json": {"query": "keys"}}
    for method, path, body in (
        ("GET", f"{DOCUMENTS}/a", {}),
        ("DELETE", f"{DOCUMENTS}/a", {}),
        ("DELETE", "/v1/collections/handbook", {}),
        ("POST", "/v1/collections/handbook/search", search),
    ):
        response = await client.request(method, path + character, **body)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert "control character" in response.json()["detail"]
    assert (await client.get(f"{DOCUMENTS}/a")).status_code == 200
    response = await client.get(f"/v1/models/all-MiniLM-L6-v2{character}")
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid-input")


@pytest.mark.parametrize(
    ("field", "value"),
    [("text", 7), ("text", None), ("title", 7), ("metadata", []), ("metadata", None), ("url", {}), ("surprise", 1)],
)
async def test_a_body_that_does_not_fit_writes_nothing(client: httpx.AsyncClient, field: str, value: object) -> None:
    response = await client.post(DOCUMENTS, json={"documents": [KEYS, KEYS | {"id": "b", field: value}]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"#/documents/1/{field}"
    assert (await client.get("/v1/collections")).json() == {"collections": []}


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


async def test_metadata_at_its_bounds_comes_back(client: httpx.AsyncClient) -> None:
    metadata = {"deep": nested(MAX_METADATA_DEPTH - 2), "least": INT64[0], "most": INT64[-1]}
    response = await client.post(DOCUMENTS, json={"documents": [KEYS | {"id": "a", "metadata": metadata}]})
    assert (response.status_code, response.json()["failed"]) == (200, [])
    assert (await client.get(f"{DOCUMENTS}/a")).json()["metadata"] == metadata


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"text": " ", "title": ""}, "empty"),
        ({"text": "x" * 4_000_001}, "text has 4000001 characters; at most 4000000 are allowed: split it"),
        ({"metadata": {"a": "x" * 65_536}}, "metadata has 65544 bytes as JSON; at most 65536 are allowed"),
        ({"metadata": nested(MAX_METADATA_DEPTH)}, "nested deeper than 16 levels"),
        ({"metadata": {"a": INT64.stop}}, "64 bits"),
        ({"metadata": {"a": "b\x00"}}, "NUL"),
    ],
)
async def test_content_that_cannot_be_indexed_fails_alone(
    client: httpx.AsyncClient, broken: dict[str, Any], says: str
) -> None:
    answer = await put(client, KEYS | {"id": "broken"} | broken, KEYS)
    assert (answer["indexed"], answer["passages"], answer["unchanged"]) == (1, 1, 0)
    [failure] = answer["failed"]
    assert failure["id"] == "broken"
    assert says in failure["error"]
    assert (await client.get(f"{DOCUMENTS}/security/keys.md")).status_code == 200
    assert (await client.get(f"{DOCUMENTS}/broken")).status_code == 404


async def test_number_too_large_for_a_float_fails_alone(client: httpx.AsyncClient) -> None:
    body = b'{"documents": [{"id": "a", "text": "x", "metadata": {"n": 1e999}}]}'
    response = await client.post(DOCUMENTS, content=body, headers={"Content-Type": "application/json"})
    assert [item["id"] for item in response.json()["failed"]] == ["a"]


async def test_nul_in_a_text_is_dropped(client: httpx.AsyncClient) -> None:
    await put(client, KEYS | {"text": "ninety\x00 days"})
    assert await texts_found(client, "days") == ["ninety days"]


async def test_the_last_of_equal_ids_counts(client: httpx.AsyncClient) -> None:
    answer = await put(client, KEYS | {"text": "first"}, KEYS | {"text": "second"})
    assert answer["indexed"] == 1
    assert [item["id"] for item in answer["failed"]] == [KEYS["id"]]
    assert await texts_found(client, "anything") == ["second"]


async def test_too_many_documents(settings: Settings, embedder: Embedder, store: VectorStore) -> None:
    few = make_services(settings_with(settings.data_dir, max_documents=2), embedder, store)
    async with client_of(build_app(few)) as client:
        response = await client.post(DOCUMENTS, json={"documents": [KEYS] * 3})
    assert response.status_code == 422
    assert response.json()["detail"] == "documents has 3 items; at most 2 are allowed in one call"


async def test_listing_gives_every_document_once(client: httpx.AsyncClient) -> None:
    await put(client, *(KEYS | {"id": f"d{i}"} for i in range(5)))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(DOCUMENTS, params=params)).json()
        seen += [document["id"] for document in page["documents"]]
        cursor = page["cursor"]
    assert cursor is None
    assert sorted(seen) == [f"d{i}" for i in range(5)]
    listed = KEYS | {"id": seen[-1]}
    del listed["text"]
    assert page["documents"] == [listed]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "nowhere"}, {"cursor": ""}]
)
async def test_listing_beyond_bounds(client: httpx.AsyncClient, params: dict[str, Any]) -> None:
    await put(client, KEYS)
    response = await client.get(DOCUMENTS, params=params)
    assert response.status_code == 422
    assert next(iter(params)) in response.json()["detail"]


@pytest.mark.parametrize("name", ["-a", "a" * 64, "a b", "é", "a\u2028"])
async def test_collection_names(client: httpx.AsyncClient, name: str) -> None:
    path = f"/v1/collections/{quote(name)}"
    for method, url in (("GET", path), ("DELETE", path), ("GET", f"{path}/documents"), ("GET", f"{path}/documents/a")):
        response = await client.request(method, url)
        assert response.status_code == 422
        assert "is not a collection name: 1 to 63 letters" in response.json()["detail"]
    response = await client.post(f"{path}/documents", json={"documents": [KEYS]})
    assert response.status_code == 422


@pytest.mark.parametrize("id", ["..", "../../x", "a/../b", "a/./b", "a/%2e%2e/b"])
async def test_an_id_that_a_client_would_resolve_is_refused(client: httpx.AsyncClient, id: str) -> None:
    """Sent as a path, `../../x` would be another collection before the service saw it."""
    response = await client.post(DOCUMENTS, json={"documents": [{"id": id, "text": "text"}]})
    assert response.json()["indexed"] == 0 and "path segment" in response.json()["failed"][0]["error"]


@pytest.mark.parametrize("id", ["a//b", "/a", "a/b/", "a?b=c&d", "...", "a..b", ".hidden", "ключ 🔑"])
async def test_an_id_in_the_query_is_taken_as_it_is(client: httpx.AsyncClient, id: str) -> None:
    await client.post(DOCUMENTS, json={"documents": [{"id": id, "text": "text"}]})
    response = await client.get(DOCUMENTS, params={"id": id})
    assert (response.status_code, response.json()["id"], response.json()["text"]) == (200, id, "text")
    assert (await client.delete(DOCUMENTS, params={"id": id})).json() == {"deleted": 1}
    assert (await client.delete(DOCUMENTS, params={"id": id})).status_code == 404
    assert (await client.get(DOCUMENTS, params={"id": id})).status_code == 404


async def test_deleting_without_an_id_deletes_nothing(client: httpx.AsyncClient) -> None:
    await client.post(DOCUMENTS, json={"documents": [{"id": "a", "text": "text"}]})
    for parameters in ({}, {"id": ""}):
        assert (await client.delete(DOCUMENTS, params=parameters)).status_code == 422
    assert (await client.get(f"{DOCUMENTS}/a")).status_code == 200
