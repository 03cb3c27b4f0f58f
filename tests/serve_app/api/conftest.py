from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.app import build_app
from serve_app.api.services import Services
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.ports import Embedder, VectorStore
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.api.replica import client_of, make_services


@pytest.fixture(scope="session")
def settings(model_data_dir: Path) -> Settings:
    return Settings(data_dir=model_data_dir)


@pytest.fixture(scope="session")
def embedder(settings: Settings) -> Iterator[Embedder]:
    local = LocalEmbedder(EmbeddingEngine.load(settings.embedding, settings.data_dir))
    yield local
    local.close()


@pytest.fixture
async def store(tmp_path: Path, settings: Settings) -> AsyncIterator[VectorStore]:
    edge = EdgeStore.open(tmp_path, settings.store)
    yield edge
    await edge.close()


@pytest.fixture
def services(settings: Settings, embedder: Embedder, store: VectorStore) -> Services:
    return make_services(settings, embedder, store)


@pytest.fixture
def app(services: Services) -> FastAPI:
    return build_app(services)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client
