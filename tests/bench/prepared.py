"""A store with many passages, embedded once and cached beside the models for later runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from rich.progress import track

from serve_app.assembly import load_assembly
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import Settings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import LOCAL_PRINCIPAL, Document, VectorSpace
from tests.bench.corpus import entries

SCOPE = LOCAL_PRINCIPAL.scope("bench")
SLICE_DOCUMENTS = 512
DOCUMENTS, DONE = "documents.jsonl", "done.json"


@dataclass(frozen=True)
class Prepared:
    """folder: its `store` is closed and optimised. Copy it, and do not change the original."""

    folder: Path
    passages: int
    space: VectorSpace

    def documents(self) -> list[Document]:
        return [Document(**orjson.loads(line)) for line in (self.folder / DOCUMENTS).read_bytes().splitlines()]


def prepared_store(settings: Settings, count: int) -> Prepared:
    """A store of `count` short entries of the installed packages. The first call takes minutes; after an interruption
    the next call continues. Later calls reuse the entries of the first one."""
    engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
    made_with = f"{engine.space} {engine.precision} {settings.chunking}"
    key = hashlib.blake2b(made_with.encode(), digest_size=8).hexdigest()
    folder = settings.data_dir / "bench" / f"{count}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    prepared = Prepared(folder, 0, engine.space)
    if not (folder / DOCUMENTS).exists():
        partial = folder / f"{DOCUMENTS}.partial"
        partial.write_bytes(b"\n".join(map(orjson.dumps, entries(count))))
        partial.rename(folder / DOCUMENTS)
    if not (folder / DONE).exists():
        passages = asyncio.run(_index(settings, prepared.documents(), folder))
        (folder / DONE).write_text(json.dumps({"passages": passages}))
    return replace(prepared, passages=json.loads((folder / DONE).read_text())["passages"])


async def _index(settings: Settings, source: Sequence[Document], folder: Path) -> int:
    store = EdgeStore.open(folder, settings.store)
    try:
        with load_assembly(settings, store, settings.embedding.of_each[:1]) as assembly:
            indexer = assembly.indexer()
            for start in track(range(0, len(source), SLICE_DOCUMENTS), f"embedding {len(source):,} documents, once"):
                report = await indexer.index(SCOPE, source[start : start + SLICE_DOCUMENTS])
                if report.failed:
                    raise RuntimeError(f"{report.failed[0].id}: {report.failed[0].error}")
        await store.optimize(SCOPE)
        return (await store.count(SCOPE)).passages
    finally:
        await store.close()
