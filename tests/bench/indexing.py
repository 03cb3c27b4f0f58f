"""Compares indexing with the bare engine on the same cores. The difference is the cost of reading, chunking, BM25,
transfers between processes and the store. The engine runs first, in its own process, then `jobs.index` on its own Ray
cluster; each runs once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serve_app.documents.indexing import cut
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import Settings, load_settings
from tests.bench.child import Child, answer_all
from tests.bench.prepared import DOCUMENTS, Prepared
from tests.bench.rounds import Comparison, Series

TARGET = 0.9
SLICE_TEXTS = 2_048  # passed to the engine in one call, so that it can batch texts of equal length
TIMEOUT_S = 3_600.0


def compare(settings: Settings, prepared: Prepared) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as name:
        Path(name, "models").symlink_to(settings.data_dir / "models")
        environ = {"AIDOCS_DATA_DIR": name}
        source = str(prepared.folder / DOCUMENTS)
        with Child(__name__, source, **environ) as engine:
            alone: dict[str, Any] = engine.ask("embed")
        command = [
            sys.executable,
            "-m",
            "jobs.index",
            "--source",
            source,
            "--collection",
            "bench",
            "--address",
            "local",
        ]
        done = subprocess.run(
            command, env=os.environ | environ, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S
        )
    run = json.loads(done.stdout.splitlines()[-1])
    if run["failed"] or run["passages"] != alone["passages"]:
        raise RuntimeError(f"the run indexed {run}, the engine alone had {alone['passages']} passages")
    ours, reference = (
        Series(kind, "tokens/s", (alone["tokens"] / seconds,))
        for kind, seconds in (("jobs.index", run["seconds"]), ("engine alone", alone["seconds"]))
    )
    note = f"{run['passages']:,} passages, {alone['tokens'] / run['passages']:.0f} tokens each"
    return Comparison("indexing", ours, reference, TARGET, note)


def main(source: str) -> None:
    settings = load_settings()
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    documents = Prepared(Path(source).parent, 0, engine.space).documents()
    chunking = settings.chunking
    texts = [text for one in documents for text in cut(one, tokenizer=engine.tokenizer, chunking=chunking).texts]

    def embed(_: object) -> dict[str, float]:
        tokens, started_s = 0, time.perf_counter()
        for start in range(0, len(texts), SLICE_TEXTS):
            tokens += int(engine.embed(texts[start : start + SLICE_TEXTS]).tokens.sum())
        return {"seconds": time.perf_counter() - started_s, "tokens": tokens, "passages": len(texts)}

    answer_all(embed, sys.stdin)


if __name__ == "__main__":
    main(sys.argv[1])
