"""Fuzzing with arbitrary JSON bodies, close to the right shape or far from it: never a 5xx, always a valid response."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.api.app import build_app
from serve_app.ports import Embedder
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.api.replica import client_of, make_services

fuzz = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@st.composite
def mostly(draw: st.DrawFn, right: st.SearchStrategy[dict[str, object]]) -> dict[str, object]:
    """An object of the right shape; in one of five, one field of it has any value."""
    body = draw(right)
    if draw(st.integers(0, 4)) == 0:
        body = body | {draw(st.sampled_from(sorted(body))): draw(values)}
    return body


keys = st.sampled_from(["a", "metadata.a", "document_id", "a[].b", 'a."b c"', "title", "a..b"])
conditions = st.one_of(
    st.builds(lambda key, value: {"key": key, "match": {"value": value}}, keys, values),
    st.builds(lambda key, value: {"key": key, "match": {"any": value}}, keys, st.lists(scalars, max_size=3)),
    st.builds(lambda key, value: {"key": key, "match": {"text": value}}, keys, texts),
    st.builds(lambda key, value: {"key": key, "range": {"gte": value}}, keys, scalars),
    st.builds(lambda key: {"is_empty": {"key": key}}, keys),
    values,
)
filters = st.dictionaries(st.sampled_from(["must", "should", "must_not"]), st.lists(conditions, max_size=3), max_size=2)
searches = mostly(
    st.fixed_dictionaries(
        {"query": texts.filter(bool)},
        optional={
            "limit": st.integers(1, 210),
            "offset": st.integers(0, 20),
            "mode": st.sampled_from(["hybrid", "dense", "sparse"]),
            "filter": filters,
            "group_by": keys,
            "facets": st.lists(keys, max_size=3),
            "diversity": st.floats(0, 1),
        },
    )
)
documents = mostly(
    st.fixed_dictionaries(
        {"id": st.text("ab/ é", min_size=1, max_size=3), "text": texts},
        optional={
            "title": texts,
            "url": texts,
            "metadata": st.dictionaries(texts, values, max_size=3),
            "subject": texts,
        },
    )
)


class Replica:
    """An app with an event loop of its own, for Hypothesis, which calls from plain functions."""

    def __init__(self, client: httpx.AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def post(self, path: str, body: object) -> httpx.Response:
        content = orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        return self._runner.run(self._client.post(f"/v1/collections/{path}", content=content, headers=headers))


@pytest.fixture(scope="module")
def replica(settings: Settings, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """With documents whose metadata has values of every type."""
    with asyncio.Runner() as runner:
        store = EdgeStore.open(tmp_path_factory.mktemp("store"), settings.store)
        replica = Replica(client_of(build_app(make_services(settings, embedder, store))), runner)
        some = ["x", 1, 1.5, True, None, ["x", 2], {"b": 1}, [{"b": 1}]]
        body = {"documents": [{"id": str(i), "text": "word", "metadata": {"a": a}} for i, a in enumerate(some)]}
        assert replica.post("full/documents", body).json()["indexed"] == len(some)
        yield replica
        runner.run(store.close())


def require_ours(response: httpx.Response) -> None:
    assert response.status_code in (200, 404, 409, 422)
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


@fuzz
@given(body=searches)
def test_search(replica: Replica, body: object) -> None:
    require_ours(replica.post("full/search", body))


@fuzz
@given(body=mostly(st.fixed_dictionaries({"queries": st.lists(searches, min_size=1, max_size=3)})))
def test_batch(replica: Replica, body: object) -> None:
    response = replica.post("full/search:batch", body)
    require_ours(response)
    for result in response.json().get("results", []):
        assert "hits" in result or result["error"]["status"] in (404, 409, 422)


@fuzz
@given(body=mostly(st.fixed_dictionaries({"documents": st.lists(documents, min_size=1, max_size=3)})))
def test_documents(replica: Replica, body: object) -> None:
    """Every document of an accepted upload is accounted for."""
    response = replica.post("fuzzed/documents", body)
    require_ours(response)
    if response.status_code == 200:
        answer = response.json()
        assert isinstance(body, dict)
        assert answer["indexed"] + answer["unchanged"] + len(answer["failed"]) == len(body["documents"])
