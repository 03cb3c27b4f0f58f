"""Answers from the cache: the same as without it, never older than an acknowledged write, never another tenant's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.errors import NotFound, PlatformError
from serve_app.ports import VectorStore
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.search.cached_embedder import CachedEmbedder
from serve_app.search.request import SearchAnswer, SearchMode, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import MIB, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Embeddings, Lane, Principal, Recipe, Scope, VectorSpace
from tests.contracts.corpus import SPACE, document, embed
from tests.serve_app.search.searchers import make_searcher, release_of

T = TypeVar("T")
ANN, BOB = Principal("acme", "ann"), Principal("rival", "bob")
WORDS = ["cats", "dogs", "birds"]
ROUNDING = 1e-5  # of a score that is computed again: not every engine gives each bit the same
QUESTION = SearchRequest("zoo", "cats", mode=SearchMode.HYBRID)


class WordEmbedder:
    """The corpus's own vectors; counts the texts that reach it."""

    def __init__(self) -> None:
        self.space: VectorSpace = SPACE
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.texts += texts
        await asyncio.sleep(0)
        return Embeddings(np.stack([embed(text) for text in texts]), np.full(len(texts), 7, np.int32))


def memory() -> Tiered:
    return Tiered((MemoryTier(8 * MIB, ttl_s=600),))


def searcher_of(store: VectorStore, cache: Tiered, embedder: WordEmbedder | None = None) -> Searcher:
    return make_searcher(store, embedder or WordEmbedder(), cache=cache)


def at_hand(searcher: Searcher, principal: Principal, request: SearchRequest) -> SearchAnswer | None:
    begun = searcher.begin(principal, request)
    return begun if isinstance(begun, SearchAnswer) else None


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(tmp_path, StoreSettings())
    await store.write(ANN.scope("zoo"), SPACE, [document("c", "cats purr"), document("d", "dogs bark")])
    yield store
    await store.close()


async def test_the_second_answer_is_the_first_one_from_memory(store: EdgeStore) -> None:
    embedder = WordEmbedder()
    searcher = searcher_of(store, memory(), embedder)
    first, second = await searcher.search(ANN, QUESTION), await searcher.search(ANN, QUESTION)
    assert (first.cache, second.cache) == ("miss", "l1")
    assert first.content == second.content and first.found.hits
    assert embedder.texts == ["cats"]


async def test_no_answer_outlives_a_switch_of_the_index(store: EdgeStore) -> None:
    zoo, searcher = ANN.scope("zoo"), searcher_of(store, memory())
    await store.make_index(zoo.at("new"), Recipe(SPACE, max_tokens=9))
    await store.write(zoo.at("new"), SPACE, [document("n", "cats")])
    releases, name = [], release_of(SPACE).name
    for index in ("new", "first", "new"):
        await searcher.search(ANN, QUESTION)
        assert at_hand(searcher, ANN, QUESTION) is not None
        await store.switch(zoo.at(index), await store.hold(zoo, 60))
        assert at_hand(searcher, ANN, QUESTION) is None
        answer = await searcher.search(ANN, QUESTION)
        assert answer.cache == "miss"
        assert ("n" in [hit.document_id for hit in answer.found.hits]) == (index == "new")
        releases.append(answer.release)
    assert releases == [f"{name}@new", name, f"{name}@new"]


async def test_equal_questions_at_once_are_one_search(store: EdgeStore) -> None:
    embedder = WordEmbedder()
    searcher = searcher_of(store, memory(), embedder)
    answers = await asyncio.gather(*(searcher.search(ANN, QUESTION) for _ in range(20)))
    assert len({answer.content for answer in answers}) == 1
    assert embedder.texts == ["cats"]


class UncountedStore(EdgeStore):
    """As one that others write to as well: it cannot tell of a version. Its first answer waits at a gate."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[int] = []
        self.held, self.gate = asyncio.Event(), asyncio.Event()

    def version_now(self, scope: Scope) -> None:  # type: ignore[override]  # as other stores answer
        return None

    async def version(self, scope: Scope) -> None:  # type: ignore[override]
        return None

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        self.asked.append(len(queries))
        answers = await super().query_batch(queries)
        self.held.set()
        if len(self.asked) == 1:
            await self.gate.wait()
        return answers


@pytest.fixture
async def uncounted(tmp_path: Path) -> AsyncIterator[UncountedStore]:
    store = UncountedStore.open(tmp_path, StoreSettings())
    assert isinstance(store, UncountedStore)
    for owner in (ANN, BOB):
        await store.write(owner.scope("zoo"), SPACE, [document(f"c of {owner.tenant}", "cats purr")])
    yield store
    await store.close()


async def test_without_a_version_equal_questions_of_one_batch_are_one_query(uncounted: UncountedStore) -> None:
    uncounted.gate.set()
    searcher = searcher_of(uncounted, memory())
    dogs = SearchRequest("zoo", "dogs")
    asked = [(ANN, QUESTION), (BOB, QUESTION), (ANN, dogs)] * 5
    answers = await asyncio.gather(*(searcher.search(who, question) for who, question in asked))
    assert uncounted.asked == [3]
    for (who, _), answer in zip(asked, answers, strict=True):
        assert [hit.document_id for hit in answer.found.hits] == [f"c of {who.tenant}"]
        assert answer.cache == "miss"


async def test_without_a_version_no_question_joins_one_that_a_write_may_have_overtaken(
    uncounted: UncountedStore,
) -> None:
    searcher = searcher_of(uncounted, memory())
    async with asyncio.timeout(10):
        early = asyncio.create_task(searcher.search(ANN, QUESTION))
        await uncounted.held.wait()
        await uncounted.write(ANN.scope("zoo"), SPACE, [document("new", "cats")])
        late = await searcher.search(ANN, QUESTION)  # while the early one is under way
        assert "new" in [hit.document_id for hit in late.found.hits]
        uncounted.gate.set()
        await early


async def test_tenants_share_no_answer(store: EdgeStore) -> None:
    await store.write(BOB.scope("zoo"), SPACE, [document("secret", "cats of another house")])
    searcher = searcher_of(store, memory())
    ann, bob = await searcher.search(ANN, QUESTION), await searcher.search(BOB, QUESTION)
    assert (ann.cache, bob.cache) == ("miss", "miss")
    assert at_hand(searcher, BOB, QUESTION).content == bob.content  # type: ignore[union-attr]
    assert [hit.document_id for hit in bob.found.hits] == ["secret"]
    assert "secret" not in [hit.document_id for hit in ann.found.hits]


async def test_a_collection_that_was_not_there_is_found_when_it_is(store: EdgeStore) -> None:
    searcher = searcher_of(store, memory())
    for _ in range(2):
        with pytest.raises(NotFound):
            await searcher.search(BOB, QUESTION)
    await store.write(BOB.scope("zoo"), SPACE, [document("d", "cats")])
    assert [hit.document_id for hit in (await searcher.search(BOB, QUESTION)).found.hits] == ["d"]


class Interleaved(RuleBasedStateMachine):
    """Two replicas with a cache each and one that they share, writes and searches in any order, some at once: every
    answer is what a replica without any cache gives."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.run(self.open())

    async def open(self) -> None:
        self.stores = self.open_stores()
        self.store = self.stores[0]
        shared = MemoryTier(8 * MIB, ttl_s=600, name="l2")
        self.replicas = [searcher_of(store, Tiered((MemoryTier(8 * MIB, ttl_s=600), shared))) for store in self.stores]
        self.plain = searcher_of(self.store, Tiered(()))

    def open_stores(self) -> list[VectorStore]:
        """One for each replica, all of the same data; the first is written to."""
        return [EdgeStore.open(Path(self.folder.name), StoreSettings())] * 2

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @rule(id=st.sampled_from("abc"), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2))
    def write(self, id: str, words: list[str]) -> None:
        self.run(self.store.write(ANN.scope("zoo"), SPACE, [document(id, " ".join(words))]))

    @rule(id=st.sampled_from("abc"))
    def delete(self, id: str) -> None:
        self.run(self.ignoring_absence(self.store.delete_documents(ANN.scope("zoo"), [id])))

    @rule()
    def drop(self) -> None:
        self.run(self.ignoring_absence(self.store.drop(ANN.scope("zoo"))))

    @rule(replica=st.integers(0, 1), text=st.sampled_from(WORDS), mode=st.sampled_from(SearchMode))
    def search(self, replica: int, text: str, mode: SearchMode) -> None:
        request = SearchRequest("zoo", text, mode=mode)
        right = self.run(found(self.plain, request))
        assert self.run(found(self.replicas[replica], request)) == pytest.approx(right, abs=ROUNDING)

    @rule(text=st.sampled_from(WORDS), id=st.sampled_from("abc"))
    def search_while_writing(self, text: str, id: str) -> None:
        async def at_once() -> None:
            writing = self.store.write(ANN.scope("zoo"), SPACE, [document(id, text)])
            await asyncio.gather(*(found(replica, SearchRequest("zoo", text)) for replica in self.replicas), writing)

        self.run(at_once())
        for replica in (0, 1):
            self.search(replica, text, SearchMode.HYBRID)

    @invariant()
    def what_was_acknowledged_is_what_is_found(self) -> None:
        if hasattr(self, "store"):
            for replica in (0, 1):
                self.search(replica, "cats", SearchMode.SPARSE)

    async def ignoring_absence(self, change: Coroutine[Any, Any, Any]) -> None:
        try:
            await change
        except NotFound:
            return

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()


async def found(searcher: Searcher, request: SearchRequest) -> dict[str, float] | str:
    """The score of each passage; asked as the API does."""
    try:
        hits = (await searcher.search(ANN, request)).found.hits
    except NotFound:
        return "no collection"
    return {hit.passage_id: hit.score for hit in hits}


TestInterleaved = pytest.mark.slow(Interleaved.TestCase)
TestInterleaved.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


@given(st.lists(st.lists(st.text(max_size=5), max_size=6), max_size=6))
def test_cached_embeddings_are_the_engine_s_own(calls: list[list[str]]) -> None:
    async def ask() -> list[tuple[list[str], Embeddings, Embeddings]]:
        embedder, plain = WordEmbedder(), WordEmbedder()
        cached = CachedEmbedder(embedder, memory(), "fp32")
        answers = [(texts, await cached.embed(texts), await both(plain, texts)) for texts in calls]
        assert set(embedder.texts) == {text for texts in calls for text in texts}
        return answers

    async def both(plain: WordEmbedder, texts: list[str]) -> Embeddings:
        if texts:
            return await plain.embed(texts)
        return Embeddings(np.empty((0, SPACE.dim), np.float32), np.empty(0, np.int32))

    for _, answer, right in asyncio.run(ask()):
        np.testing.assert_array_equal(answer.vectors, right.vectors, strict=True)
        np.testing.assert_array_equal(answer.tokens, right.tokens, strict=True)
