"""Runs all contenders of the load tests side by side, with the requests that each receives."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.local.ports import free_port
from serve_app.settings import ServingSettings, Settings
from tests.bench import plain_fastapi
from tests.bench.child import Child
from tests.bench.corpus import excerpts
from tests.bench.load import load
from tests.bench.open_loop import offer
from tests.bench.prepared import SCOPE, Prepared
from tests.bench.running import applications

QUERIES = 60_000
REPEATED = 100  # distinct queries of the repeated load
BATCHES, BATCH = 600, 100
SEARCH = f"/v1/collections/{SCOPE.collection}/search"
QUERY_WORDS, TEXT_WORDS = (3, 9), (5, 60)


@dataclass
class Bodies:
    """A file of requests. Each is sent only once, even when several contenders use the file."""

    file: Path
    sent: int = 0

    def send(self, url: str, clients: int, seconds: float) -> dict[str, Any]:
        return self.count(load(url, self.file, clients=clients, seconds=seconds, skip=self.sent))

    def count(self, result: dict[str, Any]) -> dict[str, Any]:
        self.sent += result["requests"]
        return result


@dataclass
class Contenders:
    """address: of the applications on Serve. note: describes the corpus."""

    address: str
    plain_address: str
    in_process: Child
    queries: Bodies
    repeated: Path
    texts: Bodies
    batches: Bodies
    note: str

    def search(self, clients: int, seconds: float) -> dict[str, Any]:
        return self.queries.send(self.address + SEARCH, clients, seconds)

    def offer_searches(self, rate: float, seconds: float) -> dict[str, Any]:
        result = offer(self.address + SEARCH, self.queries.file, rate=rate, seconds=seconds, skip=self.queries.sent)
        self.queries.sent += result["sent"]
        return result

    def search_peer(self, clients: int, seconds: float) -> dict[str, Any]:
        return self.queries.send(f"{self.address}/peer/search", clients, seconds)

    def search_in_process(self, clients: int, seconds: float) -> dict[str, Any]:
        question = {"clients": clients, "seconds": seconds, "skip": self.queries.sent}
        return self.queries.count(self.in_process.ask(question))

    def search_again(self, clients: int, seconds: float) -> dict[str, Any]:
        return load(self.address + SEARCH, self.repeated, clients=clients, seconds=seconds)

    def nothing(self, clients: int, seconds: float) -> dict[str, Any]:
        return load(f"{self.address}/empty", self.repeated, clients=clients, seconds=seconds)

    def embed(self, bodies: Bodies, clients: int, seconds: float) -> dict[str, Any]:
        return bodies.send(f"{self.address}/v1/embeddings", clients, seconds)

    def embed_plain(self, bodies: Bodies, clients: int, seconds: float) -> dict[str, Any]:
        return bodies.send(f"{self.plain_address}/v1/embeddings", clients, seconds)


@contextmanager
def contenders(settings: Settings, prepared: Prepared) -> Iterator[Contenders]:
    """Each contender has its own copy of the store."""
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as name:
        folder = Path(name)
        for each in ("ours", "peer", "in-process"):
            shutil.copytree(prepared.folder / "store", folder / each / "store")
            (folder / each / "models").symlink_to(settings.data_dir / "models")
        source = prepared.documents()
        short = excerpts(source, 2 * QUERIES, QUERY_WORDS)
        queries, to_embed = short[:QUERIES], short[QUERIES:]  # so that no search finds its vector in the cache
        again = itertools.islice(itertools.cycle(queries[-REPEATED:]), 10 * QUERIES)
        texts = iter(excerpts(source, BATCHES * BATCH, TEXT_WORDS))
        batches = [list(itertools.islice(texts, BATCH)) for _ in range(BATCHES)]
        distinct = write(folder / "queries.jsonl", [{"query": text} for text in queries])
        # One replica, like each contender: a second one would compete for the cores, and the proxy drops connections
        # when it learns of a new replica in the middle of a round.
        serving = ServingSettings(port=free_port(), max_replicas=1)
        ours = settings.model_copy(update={"data_dir": folder / "ours", "serving": serving})
        with (
            applications(ours, folder / "peer", SCOPE, prepared.space) as address,
            plain_fastapi.running(settings) as plain_address,
            Child("tests.bench.in_process", str(distinct), AIDOCS_DATA_DIR=str(folder / "in-process")) as in_process,
        ):
            yield Contenders(
                address,
                plain_address,
                in_process,
                Bodies(distinct),
                write(folder / "repeated.jsonl", [{"query": text} for text in again]),
                Bodies(write(folder / "texts.jsonl", [embedding_request(text) for text in to_embed])),
                Bodies(write(folder / "batches.jsonl", [embedding_request(batch) for batch in batches])),
                f"{prepared.passages:,} passages",
            )


def embedding_request(texts: str | Sequence[str]) -> dict[str, object]:
    return {"model": "all-MiniLM-L6-v2", "input": texts}


def write(path: Path, bodies: Sequence[object]) -> Path:
    path.write_text("\n".join(map(json.dumps, bodies)))
    return path
