"""The usual Serve application: gateway → embedder → searcher, each a deployment, and a hop for each request and stage.

It is the reference for search, with the same engine, store and fusion but without micro-batches. It serves
`POST /peer/search` with {"query", "limit"}.
"""

# No `from __future__ import annotations`: FastAPI reads the types of the class's handlers.

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.query_types import Fusion, Hit, StoreQuery
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Scope, Vector, VectorSpace

api = FastAPI()


class Question(BaseModel):
    query: str
    limit: int = 10


class Embedder:
    def __init__(self, settings: Settings) -> None:
        self._engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
        self._threads = ThreadPoolExecutor(self._engine.passes_at_once)

    async def embed(self, text: str) -> Vector:
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.embed, [text])
        return answer.vectors[0]


class Searcher:
    def __init__(self, settings: Settings, store_dir: Path, scope: Scope, space: VectorSpace) -> None:
        self._store = EdgeStore.open(store_dir, settings.store)
        self._sparse = Bm25SparseEncoder()
        self._profile = settings.search.profiles[settings.search.default_profile]
        self._scope, self._space = scope, space

    async def search(self, text: str, vector: Vector, limit: int) -> tuple[Hit, ...]:
        query = StoreQuery(
            self._scope,
            self._space,
            dense=vector,
            sparse=self._sparse.encode_query(text),
            limit=limit,
            fusion=Fusion(self._profile.fusion, self._profile.rrf_k),
            candidates=self._profile.candidates,
        )
        [result] = await self._store.query_batch([query])
        if isinstance(result, Exception):
            raise result
        return result.hits


@serve.ingress(api)
class Gateway:
    def __init__(self, embedder: DeploymentHandle[Any], searcher: DeploymentHandle[Any]) -> None:
        self._embedder, self._searcher = embedder, searcher

    @api.post("/search")
    async def search(self, question: Question) -> Response:
        vector = await self._embedder.embed.remote(question.query)
        hits = await self._searcher.search.remote(question.query, vector, question.limit)
        return Response(orjson.dumps({"hits": hits}), media_type="application/json")  # serialised like ours


def build(settings: Settings, store_dir: Path, scope: Scope, space: VectorSpace) -> Application:
    """The store in `store_dir` must be a closed copy: the searcher becomes its only owner."""
    deployment = serve.deployment(
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0.1},
        logging_config=LoggingConfig(enable_access_log=False),  # off, as in the service
    )
    embedder = deployment(Embedder).bind(settings)
    searcher = deployment(Searcher).bind(settings, store_dir, scope, space)
    return deployment(Gateway).bind(embedder, searcher)
