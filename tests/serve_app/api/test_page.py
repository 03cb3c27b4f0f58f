"""The served files of the search page and of /docs."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import httpx
import pytest

from serve_app.api.routes.page import STATIC

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


async def test_front_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == (STATIC / "index.html").read_text()
    assert (await client.head("/")).status_code == 200


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir() if path.is_file()))
async def test_each_file_has_its_type_and_is_revalidated(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/static/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == TYPES[name[name.rindex(".") :]]
    assert response.headers["cache-control"] == "no-cache"
    again = await client.get(f"/static/{name}", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/index.html"])
async def test_nothing_from_elsewhere_may_be_loaded(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/none.js", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/no"],
)
async def test_what_is_not_there_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_static_files_are_only_read(client: httpx.AsyncClient) -> None:
    response = await client.put("/static/app.js")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


async def test_docs_need_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert not link.startswith(("http", "//"))
        assert (await client.get(urljoin("/docs", link))).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/collections", "GET"),
        ("PATCH", "/v1/collections/a", "DELETE, GET"),
        ("PUT", "/v1/collections/a/documents/b/c", "DELETE, GET"),
        ("GET", "/v1/collections/a/search", "POST"),
        ("GET", "/v1/collections/a/search:batch", "POST"),
        ("PUT", "/v1/collections/a/documents", "DELETE, GET, POST"),
        ("POST", "/", "GET, HEAD"),
    ],
)
async def test_wrong_method_names_the_right_ones(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert response.json()["detail"] == f"{path} does not accept {method}; it accepts {allow}"
