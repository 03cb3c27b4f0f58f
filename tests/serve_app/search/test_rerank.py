"""A cross-encoder's order over the real embedded store: one ranking, whatever page of it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.errors import ConfigurationError, Conflict, InvalidInput, NotFound, PlatformError
from serve_app.query_types import Hit, StoreQuery, StoreResult
from serve_app.search.batched_embedder import BatchedEmbedder
from serve_app.search.release import always
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.search.rerank import first_hits, hits_behind, ordered, page_of
from serve_app.search.searcher import Searcher
from serve_app.settings import MIB, BatchingSettings, SearchProfile, SearchSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Principal, Scope, Vector
from tests.contracts.corpus import SPACE, document
from tests.contracts.indexes import FINE, switch
from tests.serve_app.search.searchers import make_searcher, release_of
from tests.serve_app.search.test_searcher import WordEmbedder
from tests.serve_app.telemetry.counted import counted

ANN = Principal("acme", "ann")
CANDIDATES, DOCUMENTS = 8, 15
NEXT = (5, 8, 6, 7, 9, 3, 10, 11)
SEARCH = SearchSettings(
    profiles={
        "default": SearchProfile(),
        "precise": SearchProfile(rerank_model="some/model", rerank_candidates=CANDIDATES),
    }
)


class LastFirst:
    """Likes a passage the more, the later its number; it is told of the query, too."""

    identity = "last-first@1 fp32"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Lane]] = []

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        self.asked.append((query, len(passages), lane))
        return np.array([float(passage.split()[-1]) + 100 for passage in passages], np.float32)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    edge = EdgeStore.open(tmp_path, StoreSettings())
    documents = [
        document(f"d{n}", f"cats purr {'softly ' * (n % 4)}{n}", metadata={"team": n % 5}) for n in range(DOCUMENTS)
    ]
    await edge.write(ANN.scope("zoo"), SPACE, documents)
    yield edge
    await edge.close()


def searcher_of(
    store: EdgeStore, reranker: LastFirst, cache: Tiered | None = None, meter: Meter | None = None
) -> Searcher:
    embedder = BatchedEmbedder(WordEmbedder(), BatchingSettings())
    return make_searcher(store, embedder, cache=cache, meter=meter, search=SEARCH, rerankers={"precise": reranker})


def cats(**fields: Any) -> SearchRequest:
    return SearchRequest("zoo", **{"query": "cats", "mode": SearchMode.DENSE, "profile": "precise", **fields})


async def hits(searcher: Searcher, **fields: Any) -> tuple[Hit, ...]:
    return (await searcher.search(ANN, cats(**fields))).found.hits


async def test_the_first_hits_are_in_its_order_and_the_others_as_they_were(store: EdgeStore) -> None:
    reranker = LastFirst()
    searcher = searcher_of(store, reranker)
    plain = await hits(searcher, profile=None, limit=DOCUMENTS)
    assert reranker.asked == []
    found = await hits(searcher, limit=DOCUMENTS)
    assert reranker.asked == [("cats", CANDIDATES, Lane.INTERACTIVE)]
    expected = sorted(plain[:CANDIDATES], key=lambda hit: -int(hit.document_id[1:]))
    assert [hit.document_id for hit in found] == [hit.document_id for hit in (*expected, *plain[CANDIDATES:])]
    assert [hit.score for hit in found[:CANDIDATES]] == [int(hit.document_id[1:]) + 100 for hit in expected]
    assert found[CANDIDATES:] == plain[CANDIDATES:]


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("limit", [1, 3, CANDIDATES, 10])
async def test_every_page_is_of_one_ranking(store: EdgeStore, limit: int, is_cached: bool) -> None:
    """And kept, so that the cross-encoder reads for the first page asked for only."""
    reranker = LastFirst()
    whole = await hits(searcher_of(store, reranker), limit=DOCUMENTS)
    reranker.asked.clear()
    searcher = searcher_of(store, reranker, Tiered((MemoryTier(8 * MIB, ttl_s=600),)) if is_cached else None)
    pages = [await hits(searcher, limit=limit, offset=offset) for offset in range(0, DOCUMENTS + limit, limit)]
    assert [hit for page in pages for hit in page] == list(whole)
    assert pages[-1] == ()
    assert len(reranker.asked) == (1 if is_cached else -(-CANDIDATES // limit))


class SwitchingStore(EdgeStore):
    """Before it answers the next query, it lets this index answer."""

    built: Scope | None = None

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        built, self.built = self.built, None
        if built is not None:
            await switch(self, built)
        return await super().query_batch(queries)


async def test_no_page_is_of_two_indexes(tmp_path: Path) -> None:
    """The first hits are kept, of the index that another one replaces while what is behind them is looked for."""
    store, scope = SwitchingStore.open(tmp_path, StoreSettings()), ANN.scope("zoo")
    assert isinstance(store, SwitchingStore)
    try:
        await store.write(scope, SPACE, [document(f"d{n}", f"cats purr {n}") for n in range(DOCUMENTS)])
        built = scope.at("fine")
        await store.make_index(built, FINE)
        await store.write(built, SPACE, [document(f"d{n}", f"cats purr anew {n}") for n in range(DOCUMENTS)])
        searcher = searcher_of(store, LastFirst(), Tiered((MemoryTier(8 * MIB, ttl_s=600),)))
        release = release_of(SPACE, SEARCH, rerankers={"precise": LastFirst()})
        kept = await searcher.search(ANN, cats(limit=CANDIDATES))
        assert (kept.release, len(kept.found.hits)) == (release.name, CANDIDATES)
        store.built = built
        page = await searcher.search(ANN, cats(limit=4, offset=CANDIDATES - 2))
        assert (await store.active_index(scope)).scope == built
        assert (page.release, len(page.found.hits)) == (f"{release.name}@fine", 4)
        assert all("anew" in hit.text for hit in page.found.hits)
    finally:
        await store.close()


async def test_groups_are_ordered_by_their_best_passages_and_facets_are_of_all(store: EdgeStore) -> None:
    searcher = searcher_of(store, LastFirst())
    plain = await hits(searcher, profile=None, group_by="metadata.team", limit=20)
    answer = await searcher.search(ANN, cats(group_by="metadata.team", facets=("metadata.team",), limit=3))
    best = sorted(plain, key=lambda hit: -int(hit.document_id[1:]))[:3]
    assert len(plain) == 5
    assert [hit.document_id for hit in answer.found.hits] == [hit.document_id for hit in best]
    assert (answer.found.total, answer.found.facets) == (
        DOCUMENTS,
        {"metadata.team": dict.fromkeys("01234", DOCUMENTS // 5)},
    )
    behind = await searcher.search(ANN, cats(facets=("metadata.team",), offset=CANDIDATES + 1, limit=2))
    assert (behind.found.total, behind.found.facets) == (answer.found.total, answer.found.facets)


async def test_it_is_read_for_in_the_lane_of_the_search_and_timed_where_somebody_waits(store: EdgeStore) -> None:
    reranker, meter = LastFirst(), Meter()
    searcher = searcher_of(store, reranker, meter=meter)
    for lane in (Lane.BULK, Lane.INTERACTIVE):
        await searcher.search(ANN, cats(query="dogs"), lane)
    assert reranker.asked == [("dogs", CANDIDATES, Lane.BULK), ("dogs", CANDIDATES, Lane.INTERACTIVE)]
    assert counted(meter, "aidocs_stage_seconds_count", stage="rerank", lane="interactive") == {"": 1}


async def test_what_it_cannot_be_combined_with_is_refused(store: EdgeStore) -> None:
    searcher = searcher_of(store, LastFirst())
    with pytest.raises(InvalidInput, match="diversity cannot be combined with search profile 'precise'"):
        await searcher.search(ANN, cats(diversity=0.5))
    with pytest.raises(NotFound):
        await searcher.search(Principal("rival", "bob"), cats())


def test_no_release_has_a_profile_whose_cross_encoder_is_not_loaded() -> None:
    with pytest.raises(ConfigurationError, match="'precise' is not loaded"):
        release_of(SPACE, SEARCH)


async def test_a_release_whose_cross_encoder_is_not_loaded_is_a_conflict(store: EdgeStore) -> None:
    other = LastFirst()
    other.identity = "another@1 fp32"
    release = release_of(SPACE, SEARCH, rerankers={"precise": other})
    searcher = make_searcher(
        store, WordEmbedder(), assign=always(release), search=SEARCH, rerankers={"precise": LastFirst()}
    )
    assert (await hits(searcher, profile=None))[0].document_id
    with pytest.raises(Conflict, match="cross-encoder another@1 fp32 of search profile 'precise' is not loaded here"):
        await hits(searcher)


def test_equal_scores_stay_in_order() -> None:
    found = StoreResult(tuple(Hit(f"d{n}", f"p{n}", 1.0, "", "", "", {}) for n in range(4)))
    order = ordered(found, np.array([0, 2, 0, 2], np.float32))
    assert [hit.document_id for hit in order.hits] == ["d1", "d3", "d0", "d2"]


def test_what_a_deeper_search_finds_elsewhere_is_neither_twice_nor_lost() -> None:
    """Of the first eight, d8 would be, and d3 would not, had more been looked for; d4 by another passage."""
    request = cats(limit=12, group_by="document_id")
    first = tuple(Hit(f"d{n}", f"p{n}", 100.0 - n, "", "", "", {}) for n in range(8))
    deeper = (
        *first[:3],
        Hit("d4", "p4b", 0, "", "", "", {}),
        *(Hit(f"d{n}", f"p{n}", 0, "", "", "", {}) for n in NEXT),
    )
    assert hits_behind(request, 8) == replace(request, limit=12)
    found = page_of(request, StoreResult(first), StoreResult(deeper)).hits
    assert [hit.document_id for hit in found] == [f"d{n}" for n in (*range(8), 8, 9, 10, 11)]


@pytest.mark.parametrize("offset", range(12))
@pytest.mark.parametrize("limit", [1, 4, 12])
def test_the_parts_of_a_page_join(offset: int, limit: int) -> None:
    ranking = tuple(Hit(f"d{n}", f"p{n}", -float(n), "", "", "", {}) for n in range(12))

    def found(request: SearchRequest | None) -> StoreResult | None:
        return StoreResult(ranking[request.offset :][: request.limit]) if request else None

    request = cats(offset=offset, limit=limit)
    first = found(first_hits(request, CANDIDATES)) if offset < CANDIDATES else None
    assert page_of(request, first, found(hits_behind(request, CANDIDATES))).hits == ranking[offset:][:limit]
