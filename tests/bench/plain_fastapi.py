"""The simplest embedding service: sentence-transformers behind FastAPI in one process, with FastAPI's thread pool.

python -m tests.bench.plain_fastapi PORT
"""

# No `from __future__ import annotations`: FastAPI reads the types of the handler.

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from serve_app.embedding.models import resolve_model
from serve_app.local.ports import free_port
from serve_app.settings import Settings, load_settings
from tests.bench.running import wait_until_it_answers


class Request(BaseModel):
    model: str
    input: str | list[str]


def build(model_path: Path) -> FastAPI:
    from sentence_transformers import SentenceTransformer

    app, model = FastAPI(), SentenceTransformer(str(model_path), device="cpu")

    @app.post("/v1/embeddings")
    def embed(request: Request) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
        return {"object": "list", "data": data, "model": request.model}

    return app


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Yields its address."""
    port = free_port()
    environ = os.environ | {"AIDOCS_DATA_DIR": str(settings.data_dir)}
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.plain_fastapi", str(port)], env=environ)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{url}/v1/embeddings", b'{"model": "x", "input": "x"}')
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    settings = load_settings()
    app = build(resolve_model(settings.embedding, settings.data_dir).path)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
