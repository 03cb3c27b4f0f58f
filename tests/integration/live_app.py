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
from serve_app.api.services import wire
from serve_app.assembly import assemble
from serve_app.cache.tiered import Tiered
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.ports import ServedModel
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.edge.store import EdgeStore

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
            model = ServedModel(local, engine.tokenizer, engine.precision)
            app = build_app(wire(assemble(settings, store, [model], cache=Tiered(())), {"store": store.check}))
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
