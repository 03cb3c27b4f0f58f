from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from serve_app.api.app import build_app
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from serve_app.store.sparse import Bm25SparseEncoder
from tests.serve_app.api.replica import client_of, make_services, settings_with

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["Keys are rotated every 90 days.", "", "Ключи меняют \x00 каждые 90 дней.", "word " * 2_000]


async def embed(client: httpx.AsyncClient, input: object = TEXTS, **fields: object) -> dict[str, Any]:
    response = await client.post("/v1/embeddings", json={"model": MODEL, "input": input, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def vectors_of(answer: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array([item["embedding"] for item in answer["data"]], np.float32)


async def test_answer_is_openai_s(client: httpx.AsyncClient, embedder: Embedder) -> None:
    answer = await embed(client)
    expected = await embedder.embed(TEXTS)
    assert {name: answer[name] for name in ("object", "model")} == {
        "object": "list",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
    }
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", i) for i in range(len(TEXTS))]
    np.testing.assert_allclose(vectors_of(answer), expected.vectors, atol=1e-5)
    tokens = int(expected.tokens.sum())
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_one_string_is_one_text(client: httpx.AsyncClient) -> None:
    one, many = await embed(client, TEXTS[0], user="someone"), await embed(client, TEXTS[:1])
    assert len(one["data"]) == 1
    np.testing.assert_allclose(vectors_of(one), vectors_of(many), atol=1e-5)


async def test_base64_is_the_same_vector(client: httpx.AsyncClient) -> None:
    answer = await embed(client, encoding_format="base64")
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]]
    np.testing.assert_allclose(decoded, vectors_of(await embed(client)), atol=1e-5)


async def test_fewer_dimensions_are_the_first_of_unit_length(client: httpx.AsyncClient) -> None:
    full, cut = vectors_of(await embed(client)), vectors_of(await embed(client, dimensions=64))
    expected = full[:, :64] / np.linalg.norm(full[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-5)


@pytest.mark.parametrize(("dtype", "wire", "width"), [("int8", "i1", 384), ("binary", "u1", 48)])
async def test_small_dtypes(client: httpx.AsyncClient, dtype: str, wire: str, width: int) -> None:
    plain = await embed(client, output_dtype=dtype)
    coded = await embed(client, output_dtype=dtype, encoding_format="base64")
    for a, b in zip(plain["data"], coded["data"], strict=True):
        assert len(a["embedding"]) == width
        assert a["embedding"] == np.frombuffer(base64.b64decode(b["embedding"]), wire).tolist()


async def test_sparse_is_bm25(client: httpx.AsyncClient) -> None:
    answer = await embed(client, sparse=True)
    for item, weights in zip(answer["data"], Bm25SparseEncoder().encode_passages(TEXTS), strict=True):
        assert item["sparse"]["indices"] == weights.indices.tolist()
        np.testing.assert_allclose(item["sparse"]["values"], weights.values, rtol=1e-6)
    assert all("sparse" not in item for item in (await embed(client))["data"])


@pytest.mark.parametrize("name", [MODEL, "sentence-transformers/" + MODEL])
async def test_model_by_name_or_last_part(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/v1/embeddings", json={"model": name, "input": "x"})
    assert response.status_code == 200
    assert (await client.get(f"/v1/models/{name}")).json()["id"] == "sentence-transformers/" + MODEL


async def test_models(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [(model["id"], model["object"]) for model in answer["data"]] == [("sentence-transformers/" + MODEL, "model")]


@pytest.mark.parametrize("path", ["/v1/models/gpt-4", "/v1/models/", "/v1/models/sentence-transformers"])
async def test_unknown_model(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert "sentence-transformers/all-MiniLM-L6-v2" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "status", "param", "says"),
    [
        ({"model": "gpt-4"}, 404, None, "not served; available models: sentence-transformers/all-MiniLM-L6-v2"),
        ({"model": None}, 422, "model", "valid string"),
        ({"input": [1, 2, 3]}, 422, "input", "Token ids are not supported"),
        ({"input": [[1, 2], [3]]}, 422, "input", "Token ids are not supported"),
        ({"input": []}, 422, "input", "at least 1"),
        ({"input": ["a", None]}, 422, "input.1", "valid string"),
        ({"input": {"text": "a"}}, 422, "input", "valid list"),
        ({"dimensions": 0}, 422, "dimensions", "greater than or equal to 1"),
        ({"dimensions": 385}, 422, None, "dimensions: 385 is too many; the model's vectors have 384"),
        ({"dimensions": "12"}, 422, "dimensions", "valid integer"),
        ({"encoding_format": "hex"}, 422, "encoding_format", "'float' or 'base64'"),
        ({"output_dtype": "int4"}, 422, "output_dtype", "'float32', 'int8' or 'binary'"),
        ({"sparse": 1}, 422, "sparse", "valid boolean"),
        ({"input": "x" * 100_001}, 422, None, "input[0] has 100001 characters; at most 100000"),
        ({"surprise": 1}, 422, "surprise", "unknown field"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, fields: dict[str, object], status: int, param: str | None, says: str
) -> None:
    response = await client.post("/v1/embeddings", json={"model": MODEL, "input": "x", **fields})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


async def test_too_many_texts(settings: Settings, embedder: Embedder, store: VectorStore) -> None:
    few = make_services(settings_with(settings.data_dir, max_texts=2), embedder, store)
    async with client_of(build_app(few)) as client:
        await embed(client, ["a", "b"])
        response = await client.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "b", "c"]})
    assert response.status_code == 422
    assert response.json()["error"]["message"] == "input has 3 items; at most 2 are allowed in one call"


async def test_wrong_method_has_the_envelope_too(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/embeddings")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["code"] == "method-not-allowed"
