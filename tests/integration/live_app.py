"""The API as users get it, less Ray: real engine, real embedded store, `build_app`, uvicorn on a free loopback port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from serve_app.api.app import build_app
from serve_app.api.services import Services
from serve_app.documents.indexing import Indexer
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.ports import VectorStore
from serve_app.search.embedder import BatchedEmbedder
from serve_app.search.release import Release
from serve_app.search.service import Searcher
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.edge import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder

START_TIMEOUT_S = 60.0


@contextmanager
def live_app(data_dir: Path, model_data_dir: Path) -> Iterator[str]:
    """The origin, `http://127.0.0.1:PORT`, while the app runs in a thread with an event loop of its own."""
    settings = Settings(data_dir=data_dir, embedding=EmbeddingSettings(precision="fp32", threads=1))
    engine = EmbeddingEngine.load(settings.embedding, model_data_dir)
    started = threading.Event()
    server: list[uvicorn.Server] = []
    failure: list[BaseException] = []

    async def serve(listener: socket.socket) -> None:
        local = LocalEmbedder(engine)
        store = EdgeStore.open(data_dir, settings.store)
        try:
            app = build_app(wire(settings, engine, local, store))
            server.append(uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")))
            started.set()
            await server[0].serve(sockets=[listener])
        finally:
            local.close()
            await store.close()

    def run(listener: socket.socket) -> None:
        try:
            asyncio.run(serve(listener))
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,), name="live-app")
        thread.start()
        try:
            assert started.wait(START_TIMEOUT_S), "the app did not start"
            if failure:
                raise failure[0]
            # The socket listens already: what is sent before uvicorn accepts waits in its backlog.
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            if server:
                server[0].should_exit = True
            thread.join(START_TIMEOUT_S)
    if failure:
        raise failure[0]


def wire(settings: Settings, engine: EmbeddingEngine, local: LocalEmbedder, store: VectorStore) -> Services:
    """As the gateway replica does it."""
    model = engine.model
    embedder = BatchedEmbedder(local, settings.batching)
    sparse = Bm25SparseEncoder()
    release = Release(model.space, engine.precision, settings.chunking, settings.search)
    return Services(
        settings=settings.api,
        models=(settings.embedding.model,),
        embedder=embedder,
        sparse=sparse,
        store=store,
        searcher=Searcher(
            embedder=embedder,
            sparse=sparse,
            store=store,
            search=settings.search,
            batching=settings.batching,
            release=release.name,
        ),
        indexer=Indexer(
            tokenizer=engine.tokenizer,
            chunking=settings.chunking,
            embedder=embedder,
            sparse=sparse,
            store=store,
        ),
        checks={"store": store.check},
    )
