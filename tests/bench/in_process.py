"""Engine and store in one process, called from asyncio with the service's batching: the cost of a search without HTTP,
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

from serve_app.assembly import load_assembly
from serve_app.search.request import SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import load_settings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import LOCAL_PRINCIPAL
from tests.bench.child import answer_all
from tests.bench.load import summarise
from tests.bench.prepared import SCOPE


class InProcess:
    def __init__(self, searcher: Searcher, queries: Sequence[str]) -> None:
        self._searcher, self._queries = searcher, queries

    async def load(self, clients: int, seconds: float, skip: int) -> dict[str, float]:
        """The measurements of tests.bench.load. The first error ends the benchmark."""
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
    settings = load_settings()
    store = EdgeStore.open(settings.data_dir, settings.store)
    with load_assembly(settings, store, settings.embedding.of_each[:1]) as assembly, asyncio.Runner() as runner:
        searches = InProcess(assembly.searcher(), queries)

        def answer(question: dict[str, Any]) -> dict[str, float]:
            return runner.run(searches.load(**question))

        answer_all(answer, sys.stdin)


if __name__ == "__main__":
    main(sys.argv[1])
