"""Answers from the cache where the store is a Qdrant server, which others write to as well: Redis has the versions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from qdrant_client import AsyncQdrantClient

from serve_app.cache.redis_versions import RedisVersions
from serve_app.errors import Conflict, NotFound, StoreUnavailable
from serve_app.ports import VectorStore
from serve_app.redis_client import connect
from serve_app.search.release import always
from serve_app.search.request import SearchRequest
from serve_app.settings import StoreSettings
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import Recipe, Scope, VectorSpace
from tests.contracts.corpus import SPACE, document
from tests.serve_app.cache.redis_server import RedisServer, redis_server
from tests.serve_app.search.searchers import make_searcher, release_of
from tests.serve_app.search.test_cached_search import (
    ANN,
    QUESTION,
    ROUNDING,
    WORDS,
    Interleaved,
    WordEmbedder,
    found,
    memory,
    searcher_of,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

LEASE_S = 2.0  # a change may take 0.8 of it, on a busy machine as well
TIMEOUT_S = 5.0
ZOO = ANN.scope("zoo")


CHANGES = {"upsert", "delete", "delete_payload"}


class Taking(AsyncQdrantClient):
    """In memory every call is done at once; here others have their turn before and after each, as with a server.
    down: nothing that changes a point arrives any more."""

    down = False

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name.startswith("_") or not asyncio.iscoroutinefunction(method) or name == "close":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.down and name in CHANGES:
                raise OSError("down")
            await asyncio.sleep(0)
            try:
                return await method(*args, **kwargs)
            finally:
                await asyncio.sleep(0)

        return call


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def store_of(client: AsyncQdrantClient, redis: RedisServer, lease_s: float = LEASE_S) -> QdrantStore:
    versions = RedisVersions(connect(redis.url, TIMEOUT_S), TIMEOUT_S, lease_s=lease_s)
    return QdrantStore(client, StoreSettings(), versions)


@pytest.fixture
async def stores(redis: RedisServer) -> AsyncIterator[tuple[QdrantStore, QdrantStore]]:
    """Two processes' of one server, with a collection whose version can be told."""
    client = Taking(":memory:")
    both = store_of(client, redis), store_of(client, redis)
    try:
        await both[0].write(ZOO, SPACE, [document("c", "cats purr"), document("d", "dogs bark")])
        await settled(both[0])
        yield both
    finally:
        for store in both:
            await store.close()


async def settled(store: VectorStore, scope: Scope = ZOO) -> bytes:
    async with asyncio.timeout(20):
        while True:
            if (version := await store.version(scope)) is not None:
                return version
            await asyncio.sleep(0.01)


async def test_the_second_answer_is_from_memory_until_any_process_changes_anything(
    stores: tuple[QdrantStore, QdrantStore],
) -> None:
    ours, other = stores
    searcher = searcher_of(ours, memory())
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: other.write(ZOO, SPACE, [document("e", "cats")]),
        lambda: other.delete_documents(ZOO, ["e"]),
        lambda: ours.write(ZOO, SPACE, [document("c", "cats")]),
    ]
    for change in changes:
        await searcher.search(ANN, QUESTION)
        assert (await searcher.search(ANN, QUESTION)).cache == "l1"
        await change()
        assert (await searcher.search(ANN, QUESTION)).cache == "miss"
    await other.drop(ZOO)
    assert await found(searcher, QUESTION) == "no collection"


async def test_an_answer_of_a_named_index_is_from_memory_until_any_process_changes_that_index(
    stores: tuple[QdrantStore, QdrantStore],
) -> None:
    ours, other = stores
    new, question = ZOO.at("new"), SearchRequest("zoo", "cats")
    await other.make_index(new, Recipe(SPACE, max_tokens=9))
    await settled(ours, new)
    pinned = make_searcher(ours, WordEmbedder(), cache=memory(), assign=always(release_of(SPACE, index="new")))
    active = searcher_of(ours, memory())
    await active.search(ANN, question)
    for id in ("e", "f"):
        await other.write(new, SPACE, [document(id, "cats")])
        answer = await pinned.search(ANN, question)
        assert answer.cache == "miss" and id in [hit.document_id for hit in answer.found.hits]
        assert (await pinned.search(ANN, question)).cache == "l1"
        assert (await active.search(ANN, question)).cache == "l1", "the active index has not changed"
    await other.write(ZOO, SPACE, [document("g", "cats")])
    assert (await pinned.search(ANN, question)).cache == "miss"
    await other.drop(new)
    with pytest.raises(NotFound):
        await pinned.search(ANN, question)


async def test_a_collection_made_anew_with_another_model_is_seen_at_once(
    stores: tuple[QdrantStore, QdrantStore],
) -> None:
    ours, other = stores
    searcher = searcher_of(ours, memory())
    await searcher.search(ANN, QUESTION)
    await other.drop(ZOO)
    await other.write(ZOO, VectorSpace("another", "1", SPACE.dim), [document("c", "cats")])
    with pytest.raises(Conflict, match="made with model another"):
        await searcher.search(ANN, QUESTION)


async def test_nothing_is_written_when_redis_is_away_and_searches_go_on(
    redis: RedisServer, stores: tuple[QdrantStore, QdrantStore]
) -> None:
    store = stores[0]
    searcher = searcher_of(store, memory())
    before = await found(searcher, QUESTION)
    redis.kill()
    try:
        for change in (
            store.write(ZOO, SPACE, [document("e", "cats")]),
            store.write(ANN.scope("new"), SPACE, [document("e", "cats")]),
            store.delete_documents(ZOO, ["c"]),
            store.drop(ZOO),
        ):
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                await change
        assert await found(searcher, QUESTION) == pytest.approx(before, abs=ROUNDING)
        assert [info.name for info in await store.collections(ANN.tenant)] == ["zoo"]
        assert (await searcher.search(ANN, QUESTION)).cache == "miss"
    finally:
        redis.start()
    await settled(store)
    await searcher.search(ANN, QUESTION)
    assert (await searcher.search(ANN, QUESTION)).cache == "l1"


async def test_a_write_that_qdrant_may_yet_do_keeps_answers_out_of_the_cache(redis: RedisServer) -> None:
    client = Taking(":memory:")
    early = store_of(client, redis)
    await early.write(ZOO, SPACE, [document("c", "cats")])
    await settled(early)
    store = store_of(client, redis, lease_s=300)
    client.down = True
    with pytest.raises(StoreUnavailable):
        await store.delete_documents(ZOO, ["c"])
    client.down = False
    searcher = searcher_of(store, memory())
    assert {(await searcher.search(ANN, QUESTION)).cache for _ in range(3)} == {"miss"}
    with redis.client() as left:
        left.flushall()
    for each in (early, store):
        await each.close()


class InterleavedOnQdrant(Interleaved):
    """Two processes with a store each of one server. Redis may forget everything, and writers may die, at any time."""

    redis: RedisServer

    def open_stores(self) -> list[VectorStore]:
        client = Taking(":memory:")
        return [store_of(client, self.redis), store_of(client, self.redis)]

    @rule()
    def flush(self) -> None:
        with self.redis.client() as client:
            client.flushall()

    @rule(id=st.sampled_from("abc"), turns=st.integers(0, 40))
    def die_while_writing(self, id: str, turns: int) -> None:
        """Cut off at any step; what it left is what all are to find, until it is written again."""

        async def cut_off() -> None:
            writing = asyncio.create_task(self.stores[1].write(ZOO, SPACE, [document(id, "cats dogs")]))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing

        self.run(cut_off())

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=2, max_size=2), flushed=st.booleans())
    def write_at_once(self, words: Sequence[str], flushed: bool) -> None:
        async def at_once() -> None:
            async with asyncio.TaskGroup() as group:
                for number, (store, word) in enumerate(zip(self.stores, words, strict=True)):
                    group.create_task(store.write(ZOO, SPACE, [document(f"own{number}", word)]))
                for replica in self.replicas:
                    group.create_task(found(replica, QUESTION))
                if flushed:
                    await asyncio.sleep(0)
                    self.flush()

        self.run(at_once())

    @rule()
    def wait_for_leases(self) -> None:
        self.run(settled(self.store))

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.run(self.stores[1].close())
        super().teardown()


@pytest.fixture(autouse=True)
def with_redis(redis: RedisServer) -> None:
    InterleavedOnQdrant.redis = redis


TestInterleavedOnQdrant = InterleavedOnQdrant.TestCase
TestInterleavedOnQdrant.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
