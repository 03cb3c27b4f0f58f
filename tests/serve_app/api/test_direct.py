"""The busiest routes bypass FastAPI's routing; all other requests reach it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from serve_app.api.app import build_app
from serve_app.api.direct import DirectRoute, Shortcut
from serve_app.api.routes import documents, embeddings, search
from serve_app.api.services import Services

ROUTES = [
    *search.router.routes,
    *search.batches.routes,
    *embeddings.router.routes,
    *documents.router.routes,
]


@pytest.fixture
async def client() -> Any:
    """Of a shortcut with nothing behind it but a text. Who takes the shortcut fails, for there are no services."""
    transport = httpx.ASGITransport(Shortcut(PlainTextResponse("went on"), ROUTES), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/collections/c/search", "/v1/collections/c/search:batch", "/v1/collections//search"]
)
async def test_only_posts_to_the_busiest_routes_take_the_shortcut(client: httpx.AsyncClient, path: str) -> None:
    takes_it = "//" not in path
    assert ((await client.post(path, json={})).text != "went on") == takes_it
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        assert (await client.request(method, path)).status_code == 200


async def test_what_needs_fastapi_goes_on(client: httpx.AsyncClient) -> None:
    for path in ("/v1/collections/c/documents", "/v1/embeddings/", "/v1/collections/a/b/search", "/"):
        assert (await client.post(path, json={})).text == "went on"


def test_the_busiest_routes_are_direct() -> None:
    direct = {route.path for route in ROUTES if isinstance(route, DirectRoute)}
    assert direct == {
        "/v1/embeddings",
        "/v1/collections/{collection}/search",
        "/v1/collections/{collection}/search:batch",
    }


async def test_a_path_below_another_one_takes_the_shortcut_too() -> None:
    below = httpx.ASGITransport(
        Shortcut(PlainTextResponse("went on"), ROUTES), root_path="/search-service", raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=below, base_url="http://test") as client:
        assert (await client.post("/search-service/v1/embeddings", json={})).text != "went on"


async def test_an_app_takes_the_shortcut_first(services: Services) -> None:
    """All behind it is away: whatever is answered was answered before it."""
    app = build_app(services)
    assert isinstance(app.middleware_stack, Shortcut)
    app.middleware_stack._app = PlainTextResponse("went on")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/v1/collections/c/search", json={})).status_code == 422
        assert (await client.post("/v1/embeddings", json={})).status_code == 422
        assert (await client.post("/v1/collections/c/search%0a", json={})).text == "went on"
        assert (await client.get("/v1/collections/c/search")).text == "went on"
