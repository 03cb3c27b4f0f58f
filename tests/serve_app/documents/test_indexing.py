from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from serve_app.documents.indexing import FIRST_PAUSE_S, SLICE_PASSAGES, Indexer, IndexReport, cut, fingerprint
from serve_app.errors import Conflict, Overloaded, StoreUnavailable
from serve_app.ports import ServedModel, Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, Embeddings, IndexedDocument, IndexInfo, Lane, Recipe, Scope, VectorSpace

SCOPE = Scope("acme", "docs")
SPACE = VectorSpace("model", "1", 4)
CHUNKING = ChunkingSettings()


class LengthEmbedder:
    """A vector per text that tells which text it was made of."""

    space = SPACE

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.calls.append(len(texts))
        rows = [[len(text), text.count("a"), text.count("e"), 1.0] for text in texts]
        return Embeddings(np.array(rows, np.float32), np.zeros(len(texts), np.int32))


class BusyEmbedder(LengthEmbedder):
    """Overloaded at these calls, counted from 0."""

    def __init__(self, busy: Container[int]) -> None:
        super().__init__()
        self._busy = busy

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        answer = await super().embed(texts)
        if len(self.calls) - 1 in self._busy:
            raise Overloaded("4096 requests are waiting; try again later")
        return answer


FIRST = IndexInfo(SCOPE.at("first"), Recipe(SPACE), is_active=True)


@dataclass
class MemoryStore:
    """The methods that indexing calls."""

    kept: dict[str, IndexedDocument] = field(default_factory=dict)
    writes: list[list[str]] = field(default_factory=list)
    fail_from_write: float = math.inf
    index: IndexInfo = FIRST

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        return {id: self.kept[id].fingerprint for id in document_ids if id in self.kept}

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        return {id: self.kept[id] for id in document_ids if id in self.kept}

    async def active_index(self, scope: Scope) -> IndexInfo:
        return self.index

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        if made_for != self.index.scope.index:
            raise Conflict(f"{self.index.scope.index} is active now")
        if len(self.writes) >= self.fail_from_write:
            raise StoreUnavailable("the store went away")
        self.writes.append([one.document.id for one in documents])
        self.kept.update({one.document.id: one for one in documents})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def embedder() -> LengthEmbedder:
    return LengthEmbedder()


def make_indexer(tokenizer: Tokenizer, store: MemoryStore, embedder: LengthEmbedder) -> Indexer:
    models = {embedder.space: ServedModel(embedder, tokenizer, "fp32")}
    return Indexer(models=models, chunking=CHUNKING, sparse=Bm25SparseEncoder(), store=store)  # type: ignore[arg-type]


@pytest.fixture
def indexer(tokenizer: Tokenizer, store: MemoryStore, embedder: LengthEmbedder) -> Indexer:
    return make_indexer(tokenizer, store, embedder)


async def test_new_documents_are_written_with_their_own_vectors(indexer: Indexer, store: MemoryStore) -> None:
    documents = [Document(f"d{n}", "# Part\n\n" + "a sentence here. " * (n * 60), title=f"T{n}") for n in range(1, 5)]
    report = await indexer.index(SCOPE, documents)
    kept = [store.kept[document.id] for document in documents]
    assert report == IndexReport(4, sum(len(one.passages) for one in kept), 0, ())
    for one in kept:
        for number, indexed in enumerate(one.passages):
            text = indexed.passage.embedded_text(one.document.title)
            assert indexed.passage.number == number
            assert indexed.dense.tolist() == [len(text), text.count("a"), text.count("e"), 1.0]
            assert indexed.sparse.indices.size > 0


async def test_of_a_changed_document_only_new_texts_are_embedded(
    indexer: Indexer, store: MemoryStore, embedder: LengthEmbedder
) -> None:
    parts = [f"Part {number} has its own words. " * 20 for number in range(6)]
    await indexer.index(SCOPE, [Document("a", "\n\n".join(parts)), Document("b", "b")])
    before = {item.digest: item.dense for item in store.kept["a"].passages}
    calls = len(embedder.calls)
    await indexer.index(SCOPE, [Document("a", "\n\n".join(["A new beginning. " * 40, *parts])), Document("c", "c")])
    items = store.kept["a"].passages
    new = [item for item in items if item.digest not in before]
    assert 0 < len(new) < len(items) - 3
    assert embedder.calls[calls:] == [len(new) + 1]
    assert all(item.dense is before[item.digest] for item in items if item not in new)
    for item in items:
        assert item.dense[0] == len(item.passage.embedded_text(""))


async def test_unchanged_documents_are_left_alone(
    indexer: Indexer, store: MemoryStore, embedder: LengthEmbedder
) -> None:
    documents = [Document("a", "one", metadata={"x": 1, "y": 2}), Document("b", "two")]
    await indexer.index(SCOPE, documents)
    again = [replace(documents[0], metadata={"y": 2, "x": 1}), replace(documents[1], text="three")]
    assert await indexer.index(SCOPE, again) == IndexReport(1, 1, 1, ())
    assert store.writes == [["a", "b"], ["b"]]
    assert embedder.calls == [2, 1]


async def test_the_last_of_one_id_counts(indexer: Indexer, store: MemoryStore) -> None:
    report = await indexer.index(SCOPE, [Document("a", "first"), Document("b", "other"), Document("a", "last")])
    assert (report.indexed, [one.id for one in report.failed]) == (2, ["a"])
    assert "replaces it" in report.failed[0].error
    assert store.kept["a"].document.text == "last"


async def test_a_bad_document_fails_alone(indexer: Indexer, store: MemoryStore) -> None:
    bad = [Document("", "x"), Document("nan", "x", metadata={"v": math.nan}), Document("nul", "\x00")]
    report = await indexer.index(SCOPE, [*bad, Document("good", "x\x00y\ud800")])
    assert (report.indexed, [one.id for one in report.failed]) == (1, ["", "nan", "nul"])
    assert store.kept["good"].document.text == "xy\N{REPLACEMENT CHARACTER}"


async def test_nothing_to_do_writes_nothing(indexer: Indexer, store: MemoryStore) -> None:
    assert await indexer.index(SCOPE, []) == IndexReport(0, 0, 0, ())
    assert store.writes == []


async def test_a_big_upload_goes_in_slices_and_an_outage_keeps_those_written(
    indexer: Indexer, store: MemoryStore, embedder: LengthEmbedder
) -> None:
    documents = [Document(f"d{number}", f"text {number}") for number in range(2 * SLICE_PASSAGES + 1)]
    store.fail_from_write = 1
    with pytest.raises(StoreUnavailable):
        await indexer.index(SCOPE, documents)
    store.fail_from_write = math.inf
    assert await indexer.index(SCOPE, documents) == IndexReport(
        SLICE_PASSAGES + 1, SLICE_PASSAGES + 1, SLICE_PASSAGES, ()
    )
    assert len(store.kept) == len(documents)
    assert max(embedder.calls) <= SLICE_PASSAGES


async def test_a_refused_upload_has_done_nothing(tokenizer: Tokenizer, store: MemoryStore) -> None:
    """At once, and also if a document of several slices is refused before it could be written."""
    embedder = BusyEmbedder(busy={0, 2})
    indexer = make_indexer(tokenizer, store, embedder)
    for calls in (1, 3):
        with pytest.raises(Overloaded):
            await indexer.index(SCOPE, [Document("big", "alpha beta. " * 30_000)])
        assert (store.writes, len(embedder.calls)) == ([], calls)


async def test_an_upload_that_has_begun_waits_for_the_embedder(tokenizer: Tokenizer, store: MemoryStore) -> None:
    documents = [Document(f"d{number}", f"text {number}") for number in range(SLICE_PASSAGES + 1)]
    embedder = BusyEmbedder(busy={1, 2})
    started_s = time.monotonic()
    report = await make_indexer(tokenizer, store, embedder).index(SCOPE, documents)
    assert time.monotonic() - started_s > 2.9 * FIRST_PAUSE_S  # one pause, then twice as long
    assert report == IndexReport(len(documents), len(documents), 0, ())
    assert embedder.calls == [SLICE_PASSAGES, 1, 1, 1]
    assert store.kept.keys() == {document.id for document in documents}


async def test_the_deadline_ends_the_wait_and_keeps_what_was_written(tokenizer: Tokenizer, store: MemoryStore) -> None:
    documents = [Document(f"d{number}", f"text {number}") for number in range(SLICE_PASSAGES + 1)]
    embedder = BusyEmbedder(busy=range(1, 1_000_000))
    call = asyncio.create_task(make_indexer(tokenizer, store, embedder).index(SCOPE, documents))
    deadline_s = time.monotonic() + 20
    while len(embedder.calls) < 3:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert store.writes == [[f"d{number}" for number in range(SLICE_PASSAGES)]]


async def test_one_document_of_many_passages_is_written_once(
    indexer: Indexer, store: MemoryStore, embedder: LengthEmbedder
) -> None:
    report = await indexer.index(SCOPE, [Document("big", "alpha beta. " * 30_000)])
    assert report.passages > SLICE_PASSAGES == max(embedder.calls)
    assert store.writes == [["big"]]


async def test_the_event_loop_stays_free(indexer: Indexer) -> None:
    """Longest silence of a task that only wants to tick, while a big document is cut."""
    task = asyncio.create_task(indexer.index(SCOPE, [Document("big", "A line of words.\n\n" * 40_000)]))
    gaps_s, last = [], time.perf_counter()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps_s.append(now - last)
        last = now
    assert not (await task).failed
    total_s = sum(gaps_s)
    assert len(gaps_s) > 10
    assert max(gaps_s) < total_s / 2


def test_the_fingerprint_follows_what_the_index_depends_on() -> None:
    document = Document("a", "text", "title", "url", {"k": [1, None]}, "subject")
    changed = [
        *(replace(document, **{name: "other"}) for name in ("id", "text", "title", "url", "subject")),
        replace(document, metadata={"k": [1, 2]}),
    ]
    prints = [fingerprint(one, SPACE, CHUNKING) for one in [document, *changed]]
    prints += [
        fingerprint(document, other, CHUNKING) for other in (replace(SPACE, revision="2"), replace(SPACE, dim=8))
    ]
    prints += [fingerprint(document, SPACE, ChunkingSettings(max_tokens=128))]
    assert len(set(prints)) == len(prints)
    assert fingerprint(document, SPACE, CHUNKING) == prints[0] == fingerprint(replace(document), SPACE, CHUNKING)


def test_what_is_embedded_belongs_to_the_passage(tokenizer: Tokenizer) -> None:
    one = cut(Document("a", "# H\n\nbody", "word " * 500), tokenizer=tokenizer, chunking=CHUNKING)
    assert one.texts == (one.passages[0].embedded_text(("word " * 63).strip()),)


async def test_documents_are_made_as_the_collection_s_index_is(
    tokenizer: Tokenizer, store: MemoryStore, embedder: LengthEmbedder
) -> None:
    """And anew, if another index takes its place while they are written."""
    fine, other = ChunkingSettings(max_tokens=40), LengthEmbedder()
    other.space = VectorSpace("other", "1", 4)
    indexer = Indexer(
        models={each.space: ServedModel(each, tokenizer, "fp32") for each in (embedder, other)},
        chunking=CHUNKING,
        sparse=Bm25SparseEncoder(),
        store=store,  # type: ignore[arg-type]
    )
    text = "A sentence of a few words. " * 40
    documents = [Document(f"d{n}", text) for n in range(2 * SLICE_PASSAGES)]  # two slices and more
    write = store.write

    async def switched_meanwhile(scope: Scope, *arguments: object, **made_for: str | None) -> None:
        await write(scope, *arguments, **made_for)  # type: ignore[arg-type]
        store.index = IndexInfo(SCOPE.at("new"), Recipe(other.space, max_tokens=40), is_active=True)

    store.write = switched_meanwhile  # type: ignore[method-assign]
    report = await indexer.index(SCOPE, documents)
    assert (report.indexed, report.unchanged, report.failed) == (len(documents), 0, ())
    for one in store.kept.values():
        assert one.fingerprint == fingerprint(one.document, other.space, fine)
        expected = cut(one.document, tokenizer=tokenizer, chunking=fine)
        assert tuple(item.passage for item in one.passages) == expected.passages
    assert report.passages == sum(len(one.passages) for one in store.kept.values())

    store.index = IndexInfo(SCOPE.at("newer"), Recipe(VectorSpace("unknown", "1", 4)), is_active=True)
    with pytest.raises(Conflict, match="AIDOCS_EMBEDDING__FURTHER_MODELS"):
        await indexer.index(SCOPE, documents[:1])
