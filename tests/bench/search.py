"""The API under load against the same work in three chained deployments, both on one Ray, in the same proxy mode."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from serve_app.__main__ import application
from serve_app.deployments import local
from serve_app.deployments.local_ports import free_port
from serve_app.documents.indexing import Indexer
from serve_app.embedding.engine import EmbeddingEngine, prepare
from serve_app.embedding.local import LocalEmbedder
from serve_app.settings import ServingSettings, Settings
from serve_app.store.edge import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import LOCAL_PRINCIPAL, VectorSpace
from tests.bench.corpus import documents, queries
from tests.bench.load import load
from tests.bench.rounds import Comparison, Series, interleave

COLLECTION = "bench"
CLIENTS = 32
ROUND_S = 5.0
QUERIES = 20_000
TARGET = 2.0


def compare(settings: Settings, document_count: int, rounds: int, tell: Console) -> list[Comparison]:
    """Hybrid searches per second, CLIENTS at once, and the peer's time over ours at one client. Each query is asked
    once."""
    source = documents(document_count)
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as folder:
        ours_dir, peer_dir = Path(folder, "ours"), Path(folder, "peer")
        prepare(settings.embedding, settings.data_dir)
        ours_dir.mkdir()
        (ours_dir / "models").symlink_to(settings.data_dir / "models")
        ours = settings.model_copy(update={"data_dir": ours_dir, "serving": ServingSettings(port=free_port())})
        with tell.status(f"embedding {len(source)} documents"):
            passages, space = asyncio.run(index(ours, source))
        shutil.copytree(ours_dir / "store", peer_dir / "store")
        body_file = Path(folder, "queries.jsonl")
        body_file.write_text("\n".join(json.dumps({"query": text}) for text in queries(source, QUERIES)))
        with tell.status("starting both applications"), both_running(ours, peer_dir, space):
            at = f"{local.url(ours)}/v1/collections/{COLLECTION}/search", f"{local.url(ours)}/peer/search"
            return measure(at, body_file, rounds, f"{passages:,} passages")


def measure(at: tuple[str, str], body_file: Path, rounds: int, note: str) -> list[Comparison]:
    ours_url, peer_url = at

    sent = 0

    def once(url: str, clients: int, seconds: float) -> dict[str, Any]:
        nonlocal sent
        answer = load(url, body_file, clients=clients, seconds=seconds, skip=sent)
        sent += answer["requests"]
        return answer

    def rate(url: str) -> float:
        return float(once(url, CLIENTS, ROUND_S)["requests_per_s"])

    def p50_ms(url: str) -> float:
        return float(once(url, 1, ROUND_S / 2)["p50_ms"])

    rates = interleave({"ours": lambda: rate(ours_url), "peer": lambda: rate(peer_url)}, rounds)
    times = interleave({"ours": lambda: p50_ms(ours_url), "peer": lambda: p50_ms(peer_url)}, rounds)
    return [
        Comparison(
            f"hybrid search, {CLIENTS} clients",
            Series("ai-docs", "requests/s", rates["ours"]),
            Series("three deployments", "requests/s", rates["peer"]),
            TARGET,
            note,
        ),
        Comparison(  # the peer's time over ours, so that more is better here too
            "hybrid search, 1 client, speed",
            Series("ai-docs", "searches/s", tuple(1e3 / t for t in times["ours"])),
            Series("three deployments", "searches/s", tuple(1e3 / t for t in times["peer"])),
            None,
            f"{note}; 1 / p50",
        ),
    ]


async def index(settings: Settings, source: Sequence[object]) -> tuple[int, VectorSpace]:
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    store = EdgeStore.open(settings.data_dir, settings.store)
    indexer = Indexer(
        tokenizer=engine.tokenizer,
        chunking=settings.chunking,
        embedder=LocalEmbedder(engine),
        sparse=Bm25SparseEncoder(),
        store=store,
    )
    report = await indexer.index(LOCAL_PRINCIPAL.scope(COLLECTION), source)  # type: ignore[arg-type]
    await store.close()
    return report.passages, engine.space


@contextmanager
def both_running(settings: Settings, peer_dir: Path, space: VectorSpace) -> Iterator[None]:
    os.environ["AIDOCS_DATA_DIR"] = str(settings.data_dir)  # from where the application takes its settings
    mark = local.mark_this_run(settings)
    try:
        from serve_app.deployments import local_start  # imports Ray, which reads the environment of the run

        dashboard = local_start.start(settings, application, partial(local.note_run, settings, mark))
        local_start.wait_until_ready(settings, dashboard, threading.Event())
        from ray import serve

        from tests.bench.three_deployments import build

        peer = build(settings, peer_dir, LOCAL_PRINCIPAL.scope(COLLECTION), space)
        serve.run(peer, name="peer", route_prefix="/peer")
        wait_until_it_answers(f"{local.url(settings)}/peer/search")
        yield
    finally:
        local.end(settings, mark)


def wait_until_it_answers(url: str) -> None:
    """The proxy learns of a new application a moment after it runs."""
    deadline_s = time.monotonic() + 30
    request = urllib.request.Request(url, b'{"query": "x"}', {"content-type": "application/json"})
    while True:
        try:
            local.open_directly(request, timeout_s=10).close()
            return
        except urllib.error.HTTPError as error:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{url} answers {error.code}: {error.read()[:500]!r}") from error
        time.sleep(0.1)


os.environ.setdefault("HF_HUB_OFFLINE", "1")
