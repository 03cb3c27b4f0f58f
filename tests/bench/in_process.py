"""Engine and store in one process, asked from asyncio with the service's own batching: what search costs without HTTP,
without Ray and without a second process.

    AIDOCS_DATA_DIR=… python -m tests.bench.in_process queries.jsonl
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.cache.tiered import Tiered
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.search.release import Release
from serve_app.search.request import SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import Settings, load_settings
from serve_app.store.edge.store import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import LOCAL_PRINCIPAL
from tests.bench.child import answer_all
from tests.bench.load import summarise
from tests.bench.prepared import SCOPE


class InProcess:
    def __init__(self, settings: Settings, queries: Sequence[str]) -> None:
        engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
        self._queries = queries
        self._searcher = Searcher(
            embedder=LocalEmbedder(engine),
            sparse=Bm25SparseEncoder(),
            store=EdgeStore.open(settings.data_dir, settings.store),
            search=settings.search,
            batching=settings.batching,
            release=Release.of(settings, engine.space, engine.precision).name,
            cache=Tiered(()),
        )

    async def load(self, clients: int, seconds: float, skip: int) -> dict[str, float]:
        """As tests.bench.load, without its errors: the first one ends the benchmark."""
        latencies_ms: list[float] = []
        supply = iter(self._queries[skip:])
        started_s = time.perf_counter()

        async def client() -> None:
            while (begun_s := time.perf_counter()) < started_s + seconds and (text := next(supply, None)) is not None:
                await self._searcher.search(LOCAL_PRINCIPAL, SearchRequest(SCOPE.collection, text))
                latencies_ms.append((time.perf_counter() - begun_s) * 1e3)

        await asyncio.gather(*(client() for _ in range(clients)))
        return summarise(latencies_ms, 0, time.perf_counter() - started_s)


def main(queries_file: str) -> None:
    queries = [json.loads(line)["query"] for line in Path(queries_file).read_text().splitlines()]
    with asyncio.Runner() as runner:
        searches = InProcess(load_settings(), queries)

        def answer(question: dict[str, Any]) -> dict[str, float]:
            return runner.run(searches.load(**question))

        answer_all(answer, sys.stdin)


if __name__ == "__main__":
    main(sys.argv[1])
