"""Searches over the real embedded store: what the Searcher asks of it, for whom, and what one failure spoils."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.errors import Conflict, EngineUnavailable, InvalidInput, NotFound, PlatformError
from serve_app.ports import VectorStore
from serve_app.query_types import Feedback, Fusion, FusionMethod, Hit, Smoothing, StoreQuery, StoreResult
from serve_app.search.batched_embedder import BatchedEmbedder
from serve_app.search.request import SearchAnswer, SearchMode, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import BatchingSettings, SearchProfile, SearchSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Embeddings, Lane, Principal, Recipe, VectorSpace
from tests.contracts.corpus import SPACE, ask, document, embed, query, where
from tests.serve_app.search.searchers import make_searcher, release_of

ANN, BOB = Principal("acme", "ann"), Principal("rival", "bob")
OTHER_SPACE = VectorSpace("bag-of-words", "2", 8)
SEARCH = SearchSettings(
    profiles={"rrf": SearchProfile(fusion=FusionMethod.RRF, rrf_k=7), "narrow": SearchProfile(candidates=1)}
)
LIBRARY = [
    document("cats", "cats purr softly", "cats chase mice", metadata={"kind": "pet"}),
    document("dogs", "dogs bark loudly", "dogs chase cats at night, and mice", metadata={"kind": "pet"}),
    document("birds", "birds sing songs", metadata={"kind": "wild"}),
    document("fish", "fish swim silently", metadata={"kind": "wild"}),
]


class WordEmbedder:
    """The corpus's own vectors; counts its calls."""

    def __init__(self, space: VectorSpace = SPACE, error: Exception | None = None) -> None:
        self.space, self.error, self.calls = space, error, 0

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Embeddings(np.stack([embed(text) for text in texts]), np.ones(len(texts), np.int32))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[VectorStore]:
    edge = EdgeStore.open(tmp_path, StoreSettings())
    await edge.write(ANN.scope("zoo"), SPACE, LIBRARY)
    yield edge
    await edge.close()


def searcher_of(store: VectorStore, embedder: WordEmbedder | None = None, search: SearchSettings = SEARCH) -> Searcher:
    return make_searcher(store, BatchedEmbedder(embedder or WordEmbedder(), BatchingSettings()), search=search)


def zoo(text: str, **fields: Any) -> SearchRequest:
    return SearchRequest("zoo", text, **fields)


def ids(answer: SearchAnswer) -> list[str]:
    return [hit.document_id for hit in answer.found.hits]


def scores(hits: Sequence[Hit]) -> dict[str, float]:
    """By passage: Edge gives hits that RRF scores alike in any order."""
    return {hit.passage_id: hit.score for hit in hits}


@pytest.mark.parametrize("mode", SearchMode)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"limit": 2, "offset": 1},
        {"filter": where("metadata.kind", "wild")},
        {"group_by": "document_id"},
        {"facets": ("metadata.kind",)},
    ],
)
async def test_every_mode_and_field_reaches_the_store(
    store: VectorStore, mode: SearchMode, fields: dict[str, Any]
) -> None:
    answer = await searcher_of(store).search(ANN, zoo("cats chase birds", mode=mode, **fields))
    right = await ask(store, query("cats chase birds", mode, scope=ANN.scope("zoo"), **fields))
    assert right.hits and answer.found == right
    assert (answer.release, answer.cache) == (release_of(SPACE, SEARCH).name, "miss")
    assert answer.took_ms > 0


async def test_diversity_reaches_the_store(store: VectorStore) -> None:
    fields: dict[str, Any] = {"mode": SearchMode.DENSE, "limit": 4, "diversity": 0.9}
    various = await searcher_of(store).search(ANN, zoo("cats", **fields))
    plain = await searcher_of(store).search(ANN, zoo("cats", **fields | {"diversity": None}))
    assert various.found.hits == (await ask(store, query("cats", scope=ANN.scope("zoo"), **fields))).hits
    assert ids(various) != ids(plain)


async def test_the_modes_differ(store: VectorStore) -> None:
    """Words only find passages that have them; vectors find the nearest of all."""
    searcher = searcher_of(store)
    found = {mode: ids(await searcher.search(ANN, zoo("sing", mode=mode))) for mode in SearchMode}
    assert found[SearchMode.SPARSE] == ["birds"]
    assert len(found[SearchMode.DENSE]) == len(found[SearchMode.HYBRID]) == 6
    assert found[SearchMode.HYBRID][0] == "birds"


async def test_words_are_searched_without_an_engine(store: VectorStore) -> None:
    searcher = searcher_of(store, WordEmbedder(error=EngineUnavailable("gone")))
    assert ids(await searcher.search(ANN, zoo("sing", mode=SearchMode.SPARSE))) == ["birds"]
    for mode in (SearchMode.DENSE, SearchMode.HYBRID):
        with pytest.raises(EngineUnavailable, match="gone"):
            await searcher.search(ANN, zoo("sing", mode=mode))


async def test_a_profile_decides_how_it_is_done(store: VectorStore) -> None:
    scope, text = ANN.scope("zoo"), "cats chase birds"
    searcher = searcher_of(store)
    asked = {name: scores((await searcher.search(ANN, zoo(text, profile=name))).found.hits) for name in SEARCH.profiles}
    rrf = await ask(store, query(text, scope=scope, fusion=Fusion(FusionMethod.RRF, 7)))
    narrow = await ask(store, query(text, scope=scope, candidates=1))
    assert asked["rrf"] == scores(rrf.hits) != asked["default"]
    assert asked["narrow"] == scores(narrow.hits)
    unnamed = searcher_of(store, search=SEARCH.model_copy(update={"default_profile": "rrf"}))
    assert scores((await unnamed.search(ANN, zoo(text))).found.hits) == asked["rrf"]


async def test_the_store_gets_the_whole_profile(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """How dense vectors are searched changes nothing that a collection of six passages shows."""
    queries: list[StoreQuery] = []
    answer = store.query_batch

    async def note(batch: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        queries.extend(batch)
        return await answer(batch)

    monkeypatch.setattr(store, "query_batch", note)
    profile = SearchProfile(
        hnsw_ef=77,
        candidates=33,
        exact=True,
        rescore=False,
        oversampling=3,
        feedback_passages=2,
        feedback_share=0.4,
        smoothing_candidates=20,
        smoothing_neighbours=4,
        smoothing_share=0.1,
    )
    await searcher_of(store, search=SearchSettings(profiles={"default": profile})).search(ANN, zoo("cats"))
    [query] = queries
    assert (query.hnsw_ef, query.candidates) == (77, 33)
    assert (query.exact, query.rescore, query.oversampling) == (True, False, 3)
    assert (query.feedback, query.smoothing) == (Feedback(2, 0.4), Smoothing(20, 4, 0.1))


async def test_an_unknown_profile_names_those_there_are_and_costs_no_embedding(store: VectorStore) -> None:
    embedder = WordEmbedder()
    with pytest.raises(InvalidInput, match="'fast' is not a search profile; there are: default, narrow, quality, rrf"):
        await searcher_of(store, embedder).search(ANN, zoo("cats", profile="fast"))
    assert embedder.calls == 0


async def test_searches_at_once_go_together(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the engine and one of the store, and each gets its own answer."""
    batches: list[int] = []
    answer = store.query_batch

    async def note(batch: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        batches.append(len(batch))
        return await answer(batch)

    monkeypatch.setattr(store, "query_batch", note)
    embedder = WordEmbedder()
    searcher = searcher_of(store, embedder)
    words = {"purr": "cats", "bark": "dogs", "sing": "birds", "swim": "fish"}
    answers = await asyncio.gather(*(searcher.search(ANN, zoo(word)) for word in words))
    assert [ids(answer)[0] for answer in answers] == list(words.values())
    assert (embedder.calls, batches) == (1, [4])


async def test_a_batch_answers_in_order_and_a_failing_search_is_alone(store: VectorStore) -> None:
    requests = [
        zoo("sing"),
        SearchRequest("nowhere", "sing"),
        zoo("swim", profile="fast"),
        SearchRequest("../zoo", "swim"),
        zoo("bark", mode=SearchMode.SPARSE),
    ]
    answers = await searcher_of(store).search_batch(ANN, requests)
    kinds = [SearchAnswer, NotFound, InvalidInput, InvalidInput, SearchAnswer]
    assert [type(answer) for answer in answers] == kinds
    assert [ids(answer)[0] for answer in answers if isinstance(answer, SearchAnswer)] == ["birds", "dogs"]


async def test_a_fault_of_ours_is_no_answer(store: VectorStore) -> None:
    with pytest.raises(ZeroDivisionError):
        await searcher_of(store, WordEmbedder(error=ZeroDivisionError())).search_batch(ANN, [zoo("sing"), zoo("swim")])


async def test_an_empty_batch(store: VectorStore) -> None:
    assert await searcher_of(store).search_batch(ANN, []) == []


async def test_a_tenant_finds_its_own_only(store: VectorStore) -> None:
    searcher = searcher_of(store)
    with pytest.raises(NotFound):
        await searcher.search(BOB, zoo("cats"))
    await store.write(BOB.scope("zoo"), SPACE, [document("secret", "cats of bob")])
    anns, bobs = await asyncio.gather(searcher.search(ANN, zoo("cats")), searcher.search(BOB, zoo("cats")))
    assert set(ids(anns)) == {"cats", "dogs", "birds", "fish"}
    assert ids(bobs) == ["secret"]


async def test_a_search_that_meets_another_model_is_made_anew_with_that_one(store: VectorStore) -> None:
    """Of those that are loaded; from then on with it from the start, until it is another one again."""
    main, second = WordEmbedder(), WordEmbedder(space=OTHER_SPACE)
    searcher = make_searcher(store, main, second)
    name_of_main, name_of_second = release_of(SPACE).name, release_of(OTHER_SPACE).name
    assert isinstance(store, EdgeStore)
    zoo_scope, recipe = ANN.scope("zoo"), Recipe(second.space)
    first = await searcher.search(ANN, zoo("cats"))
    assert (first.release, main.calls, second.calls) == (name_of_main, 1, 0)
    await store.make_index(zoo_scope.at("new"), recipe)
    await store.write(zoo_scope.at("new"), second.space, [document("new", "cats")])
    await store.switch(zoo_scope.at("new"), await store.hold(zoo_scope, 60))
    for calls in ((2, 1), (2, 2)):
        answer = await searcher.search(ANN, zoo("cats"))
        assert (ids(answer), answer.release) == (["new"], f"{name_of_second}@new")
        assert (main.calls, second.calls) == calls
    await store.switch(zoo_scope.at("first"), await store.hold(zoo_scope, 60))
    answer = await searcher.search(ANN, zoo("cats"))
    assert (ids(answer)[0], answer.release) == ("cats", name_of_main)


async def test_a_collection_of_another_model_is_a_conflict(store: VectorStore) -> None:
    with pytest.raises(Conflict, match="which is not loaded here: add it to AIDOCS_EMBEDDING__FURTHER_MODELS"):
        await searcher_of(store, WordEmbedder(space=OTHER_SPACE)).search(ANN, zoo("cats"))
