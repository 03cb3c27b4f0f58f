from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serve_app.ports import VectorStore
from serve_app.store.edge import folders
from serve_app.types import FIRST_INDEX, Scope


async def put(client: httpx.AsyncClient, collection: str, *texts: str) -> None:
    documents = [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    response = await client.post(f"/v1/collections/{collection}/documents", json={"documents": documents})
    assert response.status_code == 200


async def test_counts(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/collections")).json() == {"collections": []}
    await put(client, "b", "one", "two")
    await put(client, "a", "three")
    a, b = ({"name": name, "documents": n, "passages": n} for name, n in (("a", 1), ("b", 2)))
    assert (await client.get("/v1/collections")).json() == {"collections": [a, b]}
    assert (await client.get("/v1/collections/b")).json() == b


async def test_dropped_is_gone_and_the_others_stay(client: httpx.AsyncClient) -> None:
    await put(client, "a", "one", "two")
    await put(client, "b", "three")
    assert (await client.delete("/v1/collections/a")).json() == {"deleted": 2}
    assert [c["name"] for c in (await client.get("/v1/collections")).json()["collections"]] == ["b"]
    assert (await client.get("/v1/collections/a/documents/d0")).status_code == 404
    await put(client, "a", "four")
    assert (await client.get("/v1/collections/a")).json()["documents"] == 1


async def test_a_collection_that_cannot_be_read_can_be_dropped(client: httpx.AsyncClient, tmp_path: Path) -> None:
    broken = folders.index_folder(tmp_path / "store", Scope("local", "broken").at(FIRST_INDEX))
    broken.mkdir(parents=True)
    (broken / folders.CURRENT).write_text("generation-1\n")
    (broken / folders.COLLECTION).write_text("{")
    unreadable = await client.get("/v1/collections/broken")
    assert (unreadable.status_code, "drop the collection" in unreadable.json()["detail"]) == (503, True)
    assert (await client.delete("/v1/collections/broken")).json() == {"deleted": 0}
    assert not broken.exists()
    assert (await client.delete("/v1/collections/broken")).status_code == 404
    await put(client, "broken", "one")
    assert (await client.delete("/v1/collections/broken")).json() == {"deleted": 1}


async def test_nothing_is_dropped_from_a_store_that_is_gone(
    client: httpx.AsyncClient, store: VectorStore, tmp_path: Path
) -> None:
    await put(client, "a", "one")
    await store.close()
    assert (await client.delete("/v1/collections/a")).status_code == 503
    assert folders.index_folder(tmp_path / "store", Scope("local", "a").at(FIRST_INDEX)).exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/documents"),
        ("GET", "/documents/a"),
        ("DELETE", "/documents/a"),
    ],
)
async def test_unknown_collection_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, f"/v1/collections/nowhere{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "nowhere" in response.json()["detail"]
