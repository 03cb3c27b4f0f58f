"""Indexing files with the real tokenizer, engine and store, checked by searches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.documents.indexing import Indexer
from serve_app.documents.sources import read_source
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.ports import ServedModel, Tokenizer
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.settings import ChunkingSettings, EmbeddingSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, Scope

SCOPE = Scope("acme", "docs")
FILES = {
    "guide.md": "# Pump manual\n\n## Safety\n\nWear gloves near the rotor.\n\n## Cleaning\n\nUse warm water and soap.",
    "faq.html": "<title>FAQ</title><h1>FAQ</h1><h2>Refunds</h2><p>Money is returned within thirty days.</p>",
    "staff.csv": "id,name,role\n7,Ada,mathematician\n8,Grace,admiral\n",
    "broken.jsonl": '{"id": "ok", "text": "An otter swims in the river."}\n{oops\n',
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(tmp_path / "data", StoreSettings())
    yield store
    await store.close()


@pytest.fixture
async def embedder(model_data_dir: Path) -> AsyncIterator[LocalEmbedder]:
    embedder = LocalEmbedder(EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), model_data_dir))
    yield embedder
    embedder.close()


async def test_files_become_searchable(
    tmp_path: Path, store: EdgeStore, embedder: LocalEmbedder, tokenizer: Tokenizer
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)
    results = list(read_source(str(folder)))
    documents = [one for one in results if isinstance(one, Document)]
    assert len(results) - len(documents) == 1  # {oops

    sparse = Bm25SparseEncoder()
    models = {embedder.space: ServedModel(embedder, tokenizer, "fp32")}
    indexer = Indexer(models=models, chunking=ChunkingSettings(), sparse=sparse, store=store)
    first = await indexer.index(SCOPE, documents)
    assert (first.indexed, first.unchanged, first.failed) == (5, 0, ())
    again = await indexer.index(SCOPE, documents)
    assert (again.indexed, again.unchanged) == (0, 5)

    wanted = {
        "which clothes protect my hands": "guide.md",
        "when do I get my money back": "faq.html",
        "woman in the navy": "8",
        "aquatic mammal": "ok",
    }
    vectors = (await embedder.embed(list(wanted))).vectors
    queries = [StoreQuery(SCOPE, embedder.space, dense=vector, limit=1) for vector in vectors]
    queries.append(StoreQuery(SCOPE, embedder.space, sparse=sparse.encode_query("rotor"), limit=1))
    answers = await store.query_batch(queries)
    found = [one.hits[0].document_id for one in answers if isinstance(one, StoreResult)]
    assert found == [*wanted.values(), "guide.md"]
    assert await store.document(SCOPE, "guide.md") == documents[[one.id for one in documents].index("guide.md")]
