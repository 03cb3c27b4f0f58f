"""Each API request is counted once, by traffic and outcome."""

from __future__ import annotations

import httpx
import pytest

from serve_app.api.route import outcome_of
from serve_app.api.services import Services
from serve_app.api.traffic import Traffic
from serve_app.telemetry.catalogue.requests import OUTCOMES, ROUTES
from tests.serve_app.telemetry.counted import counted


async def test_requests_are_counted_by_outcome_and_a_search_by_stage(
    client: httpx.AsyncClient, services: Services
) -> None:
    document = {"id": "a", "text": "Cats purr softly."}
    assert (await client.post("/v1/collections/zoo/documents", json={"documents": [document]})).status_code == 200
    assert (await client.post("/v1/collections/zoo/search", json={"query": "cats"})).status_code == 200
    assert (await client.post("/v1/collections/zoo/search", json={"query": 1})).status_code == 422
    assert (await client.post("/v1/collections/none/search", json={"query": "cats"})).status_code == 404
    assert (await client.post("/v1/embeddings", json={"model": services.models[0], "input": "x"})).status_code == 200
    assert (await client.get("/v1/collections")).status_code == 200
    assert (await client.get("/health/live")).status_code == 200
    seen = {
        (sample.labels["route"], sample.labels["outcome"]): sample.value
        for sample in services.meter.samples()
        if sample.name == "aidocs_requests_total" and sample.value
    }
    assert seen == {
        ("uploads", "ok"): 1,
        ("searches", "ok"): 1,
        ("searches", "rejected"): 2,
        ("embeddings", "ok"): 1,
        ("lookups", "ok"): 1,
        ("other", "ok"): 1,
    }
    for stage, times in (("search", 2), ("serialise", 2)):
        assert counted(services.meter, "aidocs_stage_seconds_count", stage=stage, lane="interactive") == {"": times}


def test_every_traffic_is_a_route_of_the_metric() -> None:
    assert (*(traffic.name.lower() for traffic in Traffic), "other") == ROUTES


@pytest.mark.parametrize(
    ("status", "outcome"),
    list(zip((200, 404, 429, 504, 503, 500, 499), OUTCOMES, strict=True)),
)
def test_an_outcome_follows_from_the_status(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome
