"""Searches over HTTP with a profile that has a cross-encoder: real engines, real embedded store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from serve_app.api.app import build_app
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from tests.cross_encoders import reference_scores, save_cross_encoder
from tests.serve_app.api.replica import client_of, make_services

SEARCH = "/v1/collections/handbook/search"
TEXTS = [
    "Keys are rotated every 90 days.", "The rota changes on Monday.", "Ask for leave two weeks ahead.",
    "Backups are kept for a year.", "Visitors sign in at the desk.", "Invoices are paid within 30 days.",
]  # fmt: skip
QUERY = "how often are keys rotated"


@pytest.mark.filterwarnings("ignore")  # torch's and transformers' own
async def test_a_profile_with_a_cross_encoder_ranks_by_it(
    settings: Settings, embedder: Embedder, store: VectorStore, tmp_path: Path, model_data_dir: Path
) -> None:
    folder = save_cross_encoder(tmp_path / "tiny", model_data_dir)
    with_profile = settings.model_validate(
        {
            "data_dir": tmp_path,
            "embedding": {"precision": "fp32"},
            "search": {"profiles": {"precise": {"rerank_model": str(folder)}}},
        }
    )
    rerankers = load_rerankers(with_profile)
    serving = with_profile.model_copy(update={"data_dir": settings.data_dir})
    services = make_services(serving, embedder, store, rerankers=rerankers)
    async with client_of(build_app(services)) as client:
        documents = [{"id": f"d{n}", "title": f"Rule {n}", "text": text} for n, text in enumerate(TEXTS)]
        uploaded = await client.post("/v1/collections/handbook/documents", json={"documents": documents})
        assert uploaded.status_code == 200

        async def ask(**fields: object) -> httpx.Response:
            return await client.post(SEARCH, json={"query": QUERY, **fields})

        expected = reference_scores(folder, QUERY, [f"Rule {n}\n{text}" for n, text in enumerate(TEXTS)])
        order = [f"d{n}" for n in sorted(range(len(TEXTS)), key=lambda n: -expected[n])]
        plain = [hit["document_id"] for hit in (await ask()).json()["hits"]]
        assert plain != order
        found = (await ask(profile="precise")).json()["hits"]
        assert [hit["document_id"] for hit in found] == order
        assert [hit["score"] for hit in found] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-4)
        page = (await ask(profile="precise", offset=2, limit=3)).json()["hits"]
        assert [hit["document_id"] for hit in page] == order[2:5]

        for fields, detail in (
            ({"profile": "exact"}, "not a search profile; there are: default, precise, quality"),
            ({"profile": "precise", "diversity": 0.5}, "diversity cannot be combined with search profile 'precise'"),
        ):
            refused = await ask(**fields)
            assert refused.status_code == 422
            assert detail in refused.json()["detail"]
    for reranker in rerankers.values():
        await asyncio.to_thread(reranker.close)
