"""A replica for tests, with a real engine, a real embedded store, and a real server if a test needs one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from serve_app.api.services import Services, wire
from serve_app.assembly import assemble
from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import ModelTokenizer, load_tokenizer
from serve_app.ports import Embedder, ServedModel, VectorStore
from serve_app.settings import MIB, EmbeddingSettings, Settings

START_TIMEOUT_S = 20.0


@cache
def tokenizer_of(settings: EmbeddingSettings, data_dir: Path) -> ModelTokenizer:
    return load_tokenizer(resolve_model(settings, data_dir))


def make_services(settings: Settings, embedder: Embedder, store: VectorStore, /, **replaced: Any) -> Services:
    """As a replica has it, less what is replaced. settings.data_dir holds the model."""
    tokenizer = tokenizer_of(settings.embedding, settings.data_dir)
    assembly = assemble(
        settings,
        store,
        [ServedModel(embedder, tokenizer, settings.embedding.precision)],
        rerankers=replaced.pop("rerankers", None),
        cache=Tiered((MemoryTier(64 * MIB, ttl_s=60),)),
    )
    services = wire(assembly, {"store": store.check})
    return replace(services, **{"models": ("sentence-transformers/all-MiniLM-L6-v2",)} | replaced)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica")


@contextmanager
def live_server(app: FastAPI) -> Iterator[tuple[str, int]]:
    """The app behind uvicorn on a free port, in a thread with an event loop of its own: (host, port)."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline_s, "the server did not start"
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)


def settings_with(data_dir: Path, **api: Any) -> Settings:
    base = Settings(data_dir=data_dir)
    return base.model_copy(update={"api": base.api.model_copy(update=api)})
