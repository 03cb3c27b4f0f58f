"""Releases side by side: each search is answered by its own release, and not from the cache of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.errors import Conflict, NotFound
from serve_app.query_types import FusionMethod
from serve_app.search.release import Assignment, Release, always
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import MIB, SearchProfile, SearchSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Embeddings, Lane, Principal, Recipe, VectorSpace
from tests.contracts.corpus import SPACE, document
from tests.contracts.indexes import switch
from tests.serve_app.search.searchers import make_searcher, release_of
from tests.serve_app.search.test_searcher import WordEmbedder

ANN = Principal("acme", "ann")
ZOO = ANN.scope("zoo")
QUESTION = SearchRequest("zoo", "cats")
NEW_SPACE = VectorSpace("bag-of-words", "2", 8)
ACTIVE, FIRST, NEW = release_of(SPACE), release_of(SPACE, index="first"), release_of(NEW_SPACE, index="new")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    """A collection with two indexes of two models, whose documents differ; the first one is active."""
    edge = EdgeStore.open(tmp_path, StoreSettings())
    await edge.write(ZOO, SPACE, [document("old", "cats purr")])
    await edge.make_index(ZOO.at("new"), Recipe(NEW_SPACE))
    await edge.write(ZOO.at("new"), NEW_SPACE, [document("new", "cats purr")])
    yield edge
    await edge.close()


def memory() -> Tiered:
    return Tiered((MemoryTier(8 * MIB, ttl_s=600),))


def by_sticky_key(**releases: Release) -> Assignment:
    def assign(principal: Principal, collection: str, sticky_key: str) -> Release:
        assert (principal, collection) == (ANN, "zoo")
        return releases[sticky_key or "none"]

    return assign


async def ask(searcher: Searcher, sticky_key: str) -> tuple[str, str, str]:
    """Tier, release and the one document that was found."""
    answer = await searcher.search(ANN, QUESTION, sticky_key=sticky_key)
    [hit] = answer.found.hits
    return answer.cache, answer.release, hit.document_id


async def test_one_searcher_answers_each_sticky_key_from_its_own_release(store: EdgeStore) -> None:
    old, new = WordEmbedder(), WordEmbedder(NEW_SPACE)
    searcher = make_searcher(
        store, old, new, cache=memory(), assign=by_sticky_key(none=ACTIVE, control=ACTIVE, canary=NEW)
    )
    for tier in ("miss", "l1"):
        assert await ask(searcher, "canary") == (tier, NEW.name, "new")
        assert await ask(searcher, "control") == (tier, ACTIVE.name, "old")
    assert await ask(searcher, "") == ("l1", ACTIVE.name, "old"), "requests of one release share its answers"
    assert NEW.name == f"{release_of(NEW_SPACE).name}@new"
    assert (old.calls, new.calls) == (1, 1)


async def test_searches_of_one_moment_are_each_answered_by_their_release(store: EdgeStore) -> None:
    """They share a micro-batch, and nothing else."""
    searcher = make_searcher(
        store, WordEmbedder(), WordEmbedder(NEW_SPACE), assign=by_sticky_key(control=FIRST, canary=NEW)
    )
    found = await asyncio.gather(*(ask(searcher, key) for key in ("canary", "control") * 5))
    assert found == [("miss", NEW.name, "new"), ("miss", FIRST.name, "old")] * 5


async def test_two_releases_of_one_index_search_by_their_own_profiles(store: EdgeStore) -> None:
    """Of the same name, and at the same moment."""
    rrf = release_of(SPACE, SearchSettings(profiles={"default": SearchProfile(fusion=FusionMethod.RRF)}))
    searcher = make_searcher(store, WordEmbedder(), cache=memory(), assign=by_sticky_key(dbsf=ACTIVE, rrf=rrf))
    answers = await asyncio.gather(*(searcher.search(ANN, QUESTION, sticky_key=key) for key in ("dbsf", "rrf")))
    assert [answer.release for answer in answers] == [ACTIVE.name, rrf.name]
    [[by_deviation], [by_rank]] = [answer.found.hits for answer in answers]
    assert by_deviation.document_id == by_rank.document_id == "old"
    assert by_deviation.score != by_rank.score


async def test_the_active_index_and_the_same_index_by_name_share_no_answer(store: EdgeStore) -> None:
    """Their releases have the same name as long as the first index is active."""
    searcher = make_searcher(
        store, WordEmbedder(), WordEmbedder(NEW_SPACE), cache=memory(), assign=by_sticky_key(active=ACTIVE, first=FIRST)
    )
    assert await ask(searcher, "active") == await ask(searcher, "first") == ("miss", ACTIVE.name, "old")
    await switch(store, ZOO.at("new"))
    assert await ask(searcher, "active") == ("miss", NEW.name, "new")
    assert await ask(searcher, "first") == ("miss", FIRST.name, "old")


async def test_a_write_to_an_assigned_index_makes_its_answers_stale(store: EdgeStore) -> None:
    searcher = make_searcher(store, WordEmbedder(NEW_SPACE), cache=memory(), assign=always(NEW))
    await ask(searcher, "")
    await store.write(ZOO.at("new"), NEW_SPACE, [document("newer", "cats")])
    answer = await searcher.search(ANN, QUESTION)
    assert (answer.cache, {hit.document_id for hit in answer.found.hits}) == ("miss", {"new", "newer"})


async def test_an_index_whose_model_is_not_loaded_is_a_conflict_that_says_what_to_do(store: EdgeStore) -> None:
    searcher = make_searcher(store, WordEmbedder(), assign=by_sticky_key(control=ACTIVE, canary=NEW))
    message = "model bag-of-words .revision 2, 8 dimensions., which is not loaded here: add it to AIDOCS_EMBEDDING__F"
    for _ in range(2):
        with pytest.raises(Conflict, match=message):
            await ask(searcher, "canary")
    assert await ask(searcher, "control") == ("miss", ACTIVE.name, "old")


async def test_an_assigned_index_that_does_not_exist_is_not_found(store: EdgeStore) -> None:
    searcher = make_searcher(store, WordEmbedder(), assign=always(release_of(SPACE, index="gone")))
    with pytest.raises(NotFound, match="gone"):
        await searcher.search(ANN, QUESTION)


class SwitchingEmbedder(WordEmbedder):
    """While it embeds the first query, another index becomes active."""

    def __init__(self, store: EdgeStore) -> None:
        super().__init__()
        self._store = store

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        if self.calls == 0:
            await switch(self._store, ZOO.at("new"))
        return await super().embed(texts, lane)


async def test_a_switch_during_a_search_embeds_the_query_again(store: EdgeStore) -> None:
    old, new = SwitchingEmbedder(store), WordEmbedder(NEW_SPACE)
    searcher = make_searcher(store, old, new, cache=memory())
    assert await ask(searcher, "") == ("miss", NEW.name, "new")
    assert (old.calls, new.calls) == (1, 1)
    begun = searcher.begin(ANN, QUESTION)
    assert not isinstance(begun, SearchAnswer), "an answer that a switch overtook is kept under the version before it"
    assert await ask(searcher, "") == ("miss", NEW.name, "new")
    assert (old.calls, new.calls) == (1, 2), "the model of the active index is remembered"
    assert (await ask(searcher, ""))[0] == "l1"


async def test_a_switch_to_a_model_that_is_not_loaded_is_a_conflict_until_it_is_reverted(store: EdgeStore) -> None:
    searcher = make_searcher(store, SwitchingEmbedder(store), cache=memory())
    with pytest.raises(Conflict, match="not loaded here"):
        await ask(searcher, "")
    await switch(store, ZOO.at("first"))
    assert await ask(searcher, "") == ("miss", ACTIVE.name, "old")
