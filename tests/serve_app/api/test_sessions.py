"""The session header: valid ids are accepted, others are refused with a reason."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

SEARCH = "/v1/collections/zoo/search"


@pytest.fixture
async def zoo(client: httpx.AsyncClient) -> httpx.AsyncClient:
    body = {"documents": [{"id": "cats", "text": "Cats purr softly."}]}
    assert (await client.post("/v1/collections/zoo/documents", json=body)).status_code == 200
    return client


@pytest.mark.parametrize("session", ["", "two words", "x" * 129, "é", "tab\there"])
async def test_an_invalid_session_id_is_refused(zoo: httpx.AsyncClient, session: str) -> None:
    response = await zoo.post(SEARCH, json={"query": "cats"}, headers=[(b"X-Session-Id", session.encode())])
    assert response.status_code == 422
    problem = response.json()
    assert problem["errors"] == [{"parameter": "X-Session-Id", "detail": "must be 1 to 128 visible ASCII characters"}]
    assert problem["detail"] == "X-Session-Id: must be 1 to 128 visible ASCII characters"


async def test_the_longest_session_id_is_accepted(zoo: httpx.AsyncClient) -> None:
    response = await zoo.post(SEARCH, json={"query": "cats"}, headers={"X-Session-Id": "~" * 128})
    assert response.status_code == 200


def test_the_header_is_documented(app: FastAPI) -> None:
    operations = app.openapi()["paths"]
    named = [p for p in operations["/v1/collections/{collection}/search"]["post"]["parameters"] if p["in"] == "header"]
    session = next(p for p in named if p["name"] == "X-Session-Id")
    assert session["required"] is False
    assert "neither stored nor logged" in session["description"]
