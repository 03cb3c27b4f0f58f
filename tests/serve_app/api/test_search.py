from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve_app.api.app import build_app
from serve_app.ports import Embedder
from serve_app.search.release import Release
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.api.replica import client_of, make_services

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEARCH = "/v1/collections/handbook/search"
DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": "keys",
        "title": "Keys",
        "text": "Keys are rotated every 90 days.",
        "url": "https://intranet.example/keys",
        "metadata": {"team": "platform", "year": 2026},
    },
    {
        "id": "rota",
        "title": "On call",
        "text": "The rota changes on Monday.",
        "metadata": {"team": "ops", "year": 2025},
    },
    {
        "id": "leave",
        "title": "Leave",
        "text": "Ask for leave two weeks ahead.",
        "metadata": {"team": "hr", "year": 2025},
    },
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    settings: Settings, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A replica whose store has DOCUMENTS; no test here changes it."""
    store = EdgeStore.open(tmp_path_factory.mktemp("store"), settings.store)
    async with client_of(build_app(make_services(settings, embedder, store))) as client:
        response = await client.post("/v1/collections/handbook/documents", json={"documents": DOCUMENTS})
        assert response.json()["indexed"] == len(DOCUMENTS)
        yield client
    await store.close()


async def ask(client: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    response = await client.post(SEARCH, json={"query": "how often are keys rotated", **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["document_id"] for hit in answer["hits"]]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
async def test_best_first(client: httpx.AsyncClient, mode: str) -> None:
    answer = await ask(client, mode=mode)
    assert ids(answer)[0] == "keys"
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


async def test_members_of_an_answer(client: httpx.AsyncClient, settings: Settings, embedder: Embedder) -> None:
    answer = await ask(client, limit=1)
    assert set(answer) == {"hits", "release", "cache", "took_ms"}
    release = Release.of(settings, embedder.space, settings.embedding.precision)
    assert (answer["release"], answer["cache"]) == (release.name, "miss")
    assert answer["took_ms"] > 0
    [hit] = answer["hits"]
    assert hit.pop("score") > 0
    assert isinstance(hit.pop("passage_id"), str)
    assert hit == {
        "document_id": "keys",
        "title": "Keys",
        "text": "Keys are rotated every 90 days.",
        "url": "https://intranet.example/keys",
        "metadata": {"team": "platform", "year": 2026},
        "headings": [],
    }


async def test_offset_goes_on_where_limit_ended(client: httpx.AsyncClient) -> None:
    everything = ids(await ask(client, mode="dense"))
    assert ids(await ask(client, mode="dense", limit=2, offset=1)) == everything[1:3]


async def test_filter(client: httpx.AsyncClient) -> None:
    assert ids(await ask(client, filter={"must": [{"key": "team", "match": {"value": "hr"}}]})) == ["leave"]
    for everything in ({}, None, {"must": None}):
        assert len(ids(await ask(client, filter=everything))) == 3


async def test_facets_are_counted_over_what_the_filter_leaves(client: httpx.AsyncClient) -> None:
    filter = {"must": [{"key": "year", "range": {"lt": 2026}}]}
    answer = await ask(client, facets=["team", "metadata.year"], filter=filter, limit=1)
    assert answer["total"] == 2
    assert answer["facets"] == {"team": {"hr": 1, "ops": 1}, "metadata.year": {"2025": 2}}


async def test_group_by_keeps_the_best_of_each(client: httpx.AsyncClient) -> None:
    best = ids(await ask(client, group_by="year"))
    assert len(best) == 2
    assert best[0] == "keys"


async def test_diversity_and_profile(client: httpx.AsyncClient) -> None:
    assert sorted(ids(await ask(client, diversity=0.5, profile="default"))) == ["keys", "leave", "rota"]


@pytest.mark.parametrize("query", [" ", "\x00", "?!", "🔑", "x" * 8_192, "и"])
async def test_odd_queries(client: httpx.AsyncClient, query: str) -> None:
    for mode in ("hybrid", "dense", "sparse"):
        await ask(client, query=query, mode=mode)


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"query": ""}, "query: String should have at least 1 character"),
    ({"query": None}, "query: Input should be a valid string"),
    ({"query": "x" * 8_193}, "query is 8193 characters; at most 8192"),
    ({"limit": 0}, "limit: Input should be greater than or equal to 1"),
    ({"limit": 201}, "limit is 201 hits; at most 200"),
    ({"limit": 1.5}, "limit: Input should be a valid integer"),
    ({"limit": 2**70}, "limit is 1180591620717411303424 hits; at most 200"),
    ({"limit": True}, "limit: Input should be a valid integer"),
    ({"offset": -1}, "offset: Input should be greater than or equal to 0"),
    ({"offset": 10_001}, "offset is 10001 hits; at most 10000"),
    ({"mode": "fuzzy"}, "mode: Input should be 'hybrid', 'dense' or 'sparse'"),
    ({"diversity": 1.1}, "diversity: Input should be less than or equal to 1"),
    ({"facets": [f"f{i}" for i in range(11)]}, "facets is 11 fields; at most 10"),
    ({"facets": ["a..b"]}, "facets: 'a..b'"),
    ({"group_by": ""}, "group_by: ''"),
    ({"profile": "fast"}, "'fast' is not a search profile; there are: default"),
    ({"filter": []}, "filter: Input should be a valid dictionary"),
    ({"filter": {"must": [{"key": "year", "range": {"gte": "soon"}}]}}, "filter.must[0].range.gte"),
    ({"filter": {"most": []}}, "filter: unknown field"),
    ({"surprise": 1}, "surprise: unknown field"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSALS, ids=str)
async def test_refusals(client: httpx.AsyncClient, fields: dict[str, Any], says: str) -> None:
    response = await client.post(SEARCH, json={"query": "x", **fields})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith(says)


async def test_deep_filter(client: httpx.AsyncClient) -> None:
    filter: dict[str, Any] = {"key": "year", "match": {"value": 1}}
    for _ in range(9):
        filter = {"must": [filter]}
    response = await client.post(SEARCH, json={"query": "x", "filter": filter})
    assert response.status_code == 422
    assert "8 deep" in response.json()["detail"]


async def test_unknown_collection(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/collections/nowhere/search", json={"query": "x"})
    assert response.status_code == 404
    assert "nowhere" in response.json()["detail"]


async def test_batch_answers_in_order_and_errors_stay_apart(client: httpx.AsyncClient) -> None:
    queries = [
        {"query": "keys", "limit": 1},
        {"query": "x", "limit": 201},
        {"query": "monday rota", "limit": 1, "facets": ["team"]},
        {"query": "x", "profile": "fast"},
    ]
    response = await client.post(f"{SEARCH}:batch", json={"queries": queries})
    assert response.status_code == 200
    keys, too_many, rota, no_profile = response.json()["results"]
    assert (ids(keys), ids(rota)) == (["keys"], ["rota"])
    assert ("total" in keys, rota["total"]) == (False, 3)
    assert too_many == {
        "error": {
            "type": "urn:ai-docs:error:invalid-input",
            "title": "Invalid input",
            "status": 422,
            "detail": "limit is 201 hits; at most 200 are allowed",
        }
    }
    assert "not a search profile" in no_profile["error"]["detail"]


async def test_batch_in_an_unknown_collection(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/collections/nowhere/search:batch", json={"queries": [{"query": "x"}]})
    assert [result["error"]["status"] for result in response.json()["results"]] == [404]


@pytest.mark.parametrize(
    ("queries", "pointer"),
    [([], "#/queries"), ([{"query": "x"}, {"query": 1}], "#/queries/1/query"), ("x", "#/queries")],
)
async def test_batch_that_does_not_fit(client: httpx.AsyncClient, queries: object, pointer: str) -> None:
    response = await client.post(f"{SEARCH}:batch", json={"queries": queries})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer


async def test_batch_of_too_many(client: httpx.AsyncClient) -> None:
    full, over = ({"queries": [{"query": "x", "mode": "sparse"}] * n} for n in (100, 101))
    assert len((await client.post(f"{SEARCH}:batch", json=full)).json()["results"]) == 100
    response = await client.post(f"{SEARCH}:batch", json=over)
    assert response.status_code == 422
    assert response.json()["detail"] == "queries has 101 items; at most 100 are allowed in one call"
