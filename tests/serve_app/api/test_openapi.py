"""The OpenAPI document is complete, and the service conforms to it: schemathesis tests every operation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serve_app.api.app import build_app
from serve_app.api.problems import OPENAI_ROUTES, PROBLEM_JSON
from serve_app.api.timeouts import TIMEOUT_HEADER
from serve_app.ports import Embedder
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.api.replica import live_server, make_services

ROUTES = {
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/collections"),
    ("GET", "/v1/collections/{collection}"),
    ("DELETE", "/v1/collections/{collection}"),
    ("POST", "/v1/collections/{collection}/documents"),
    ("GET", "/v1/collections/{collection}/documents"),
    ("DELETE", "/v1/collections/{collection}/documents"),
    ("GET", "/v1/collections/{collection}/documents/{id}"),
    ("DELETE", "/v1/collections/{collection}/documents/{id}"),
    ("POST", "/v1/collections/{collection}/search"),
    ("POST", "/v1/collections/{collection}/search:batch"),
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
}
CAN_BE_WRONG = {(method, path) for method, path in ROUTES if method == "POST" or "{collection}" in path}


@pytest.fixture(scope="module")
def live_api(settings: Settings, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The schema, loaded from a running server."""
    store = EdgeStore.open(tmp_path_factory.mktemp("store"), settings.store)
    app = build_app(make_services(settings, embedder, store))
    with live_server(app) as (host, port):
        yield schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json")
    asyncio.run(store.close())


def test_document_has_every_route(app: FastAPI) -> None:
    operations = {
        (method.upper(), path): operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == ROUTES
    for (_, path), operation in operations.items():
        kind = "application/json" if path.startswith(OPENAI_ROUTES) else PROBLEM_JSON
        assert operation["description"]
        for status, response in operation["responses"].items():
            assert set(response["content"]) == {"application/json" if status == "200" else kind}
        if body := operation.get("requestBody"):
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
            assert app.openapi()["components"]["schemas"][name]["examples"]


async def test_document_is_served(client: httpx.AsyncClient, app: FastAPI) -> None:
    assert (await client.get("/openapi.json")).json() == app.openapi()


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*route, GenerationMode.POSITIVE) for route in sorted(ROUTES)]
    + [(*route, GenerationMode.NEGATIVE) for route in sorted(CAN_BE_WRONG)],
)
def test_service_keeps_to_the_document(live_api: Any, method: str, path: str, mode: GenerationMode) -> None:
    """No 5xx, no answer outside the document, and nothing accepted that the document forbids. What it allows may be
    refused: limits are settings, and the grammar of filters is not JSON Schema."""
    operation = live_api[path][method]

    @settings(max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def keeps_to_the_document(case: schemathesis.Case[Any]) -> None:
        text = str(case.headers.get(TIMEOUT_HEADER, ""))
        if mode is GenerationMode.POSITIVE or (text.isdecimal() and 1 <= int(text) <= 30_000):
            case.headers.pop(TIMEOUT_HEADER, None)  # 504 after a millisecond is right, and here it would be a fault
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=30)

    keeps_to_the_document()
