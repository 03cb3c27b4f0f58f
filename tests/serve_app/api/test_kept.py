"""A repeated search is answered from the cache, with the same answer as a new search."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Request

from serve_app.api import dependencies
from serve_app.api.routes.search import MAX_REMEMBERED_BYTES
from serve_app.api.services import Services
from serve_app.api.traffic import Traffic
from serve_app.types import Principal

QUERY = {"query": "how often are keys rotated"}


async def put(client: httpx.AsyncClient, collection: str, id: str, text: str, tenant: str = "local") -> None:
    body = {"documents": [{"id": id, "text": text}]}
    response = await client.post(f"/v1/collections/{collection}/documents", json=body, headers={"tenant": tenant})
    assert response.status_code == 200


async def search(
    client: httpx.AsyncClient, collection: str, body: object = QUERY, tenant: str = "local"
) -> tuple[str, list[str]]:
    """Where the answer was, and the documents."""
    response = await client.post(f"/v1/collections/{collection}/search", json=body, headers={"tenant": tenant})
    assert response.status_code == 200, response.text
    return response.json()["cache"], [hit["document_id"] for hit in response.json()["hits"]]


async def test_a_kept_answer_takes_no_slot_and_is_the_one_that_was_found(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, "c", "keys", "Keys are rotated every 90 days.")
    assert await search(client, "c") == ("miss", ["keys"])
    limiter = app.state.limiters[Traffic.SEARCHES]
    monkeypatch.setattr(limiter, "admit", None)  # who takes a slot fails
    assert await search(client, "c") == ("l1", ["keys"])
    assert limiter.in_flight == 0


async def test_a_write_makes_a_kept_answer_stale(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await put(client, "c", f"keys {number}", f"Keys are rotated every {number} days.")
        for tier in ("miss", "l1"):
            found, ids = await search(client, "c")
            assert (found, sorted(ids)) == (tier, [f"keys {i}" for i in range(number + 1)])
    await client.delete("/v1/collections/c/documents/keys 1")
    assert "keys 1" not in (await search(client, "c"))[1]


async def test_equal_bodies_of_two_collections_and_two_tenants_share_nothing(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_header(request: Request) -> Principal:
        return Principal(request.headers["tenant"], "somebody")

    monkeypatch.setattr(dependencies, "principal_of", of_header)
    places = [("a", "acme"), ("b", "acme"), ("a", "globex")]
    for collection, tenant in places:
        await put(client, collection, f"{collection} of {tenant}", "Keys are rotated.", tenant)
    for tier in ("miss", "l1"):
        for collection, tenant in places:
            assert await search(client, collection, tenant=tenant) == (tier, [f"{collection} of {tenant}"])


async def test_bodies_that_differ_in_anything_are_answered_apart(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await put(client, "c", f"{number}", f"Keys are rotated every {number} days.")
    everything = (await search(client, "c"))[1]
    for number, id in enumerate(everything):
        assert await search(client, "c", QUERY | {"limit": 1, "offset": number}) == ("miss", [id])
        assert await search(client, "c", QUERY | {"limit": 1, "offset": number}) == ("l1", [id])


async def test_long_bodies_are_not_remembered_and_their_answers_are(
    services: Services, client: httpx.AsyncClient
) -> None:
    await put(client, "c", "keys", "Keys are rotated every 90 days.")
    long = {"query": "keys " * (MAX_REMEMBERED_BYTES // 5)}
    assert await search(client, "c", long) == ("miss", ["keys"])
    assert await search(client, "c", long) == ("l1", ["keys"])
    assert len(services.asked) == 0
    await search(client, "c")
    assert len(services.asked) == 1


async def test_what_is_wrong_stays_wrong(services: Services, client: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert (await client.post("/v1/collections/absent/search", json=QUERY)).status_code == 404
        assert (await client.post("/v1/collections/c/search", json={"query": ""})).status_code == 422
        assert (await client.post("/v1/collections/c/search", json=QUERY | {"limit": 10_000})).status_code == 422
        for content_type, status in (("application/json", 400), ("text/plain", 415)):
            headers = {"content-type": content_type}
            response = await client.post("/v1/collections/c/search", content=b"{", headers=headers)
            assert response.status_code == status
    assert len(services.asked) == 1  # the one that asked for a collection that may come
    await put(client, "absent", "keys", "Keys are rotated every 90 days.")
    assert await search(client, "absent") == ("miss", ["keys"])
