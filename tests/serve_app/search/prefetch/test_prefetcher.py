"""Prefetching with the real Searcher, cache and embedded store: it learns which pages are turned, switches itself off
where it is useless, keeps tenants apart, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.errors import EngineUnavailable
from serve_app.ports import VectorStore
from serve_app.search.prefetch.prefetcher import MAX_RUNNING, REPEAT_AFTER_S, Prefetcher
from serve_app.search.release import Assignment
from serve_app.search.request import SearchRequest
from serve_app.settings import MIB, PrefetchSettings, SearchProfile, SearchSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, Principal
from tests.contracts.corpus import SPACE, document, embed
from tests.serve_app.search.searchers import make_searcher, release_of
from tests.serve_app.telemetry.counted import counted

ANN, ANA, BOB = Principal("acme", "ann"), Principal("acme", "ana"), Principal("rival", "bob")
WORDS = ["cats", "dogs", "birds", "fish", "mice", "songs", "nights", "cat food"]
PAGE_HITS = 2
WAIT_S = 10.0


class GatedEmbedder:
    """The corpus's own vectors. Texts of the bulk lane wait while the gate is shut, and raise `error` if it is set."""

    def __init__(self) -> None:
        self.space = SPACE
        self.texts: list[tuple[str, Lane]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.texts += [(text, lane) for text in texts]
        if lane is Lane.BULK:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        return Embeddings(np.stack([embed(text) for text in texts]), np.ones(len(texts), np.int32))


class Service:
    """Search with prefetching, and a clock that the test sets."""

    def __init__(self, store: VectorStore, assign: Assignment | None = None, **settings: Any) -> None:
        self.embedder, self.meter, self.now_s = GatedEmbedder(), Meter(), 0.0
        self.cache = Tiered((MemoryTier(8 * MIB, ttl_s=600),))
        searcher = make_searcher(store, self.embedder, cache=self.cache, meter=self.meter, assign=assign)
        self.searcher = searcher
        self.prefetcher = Prefetcher(
            searcher, PrefetchSettings(**{"enabled": True} | settings), self.meter, clock=lambda: self.now_s
        )

    async def ask(
        self,
        text: str,
        page: int = 0,
        who: Principal = ANN,
        load: float = 0.0,
        *,
        limit: int = PAGE_HITS,
        sticky_key: str = "",
    ) -> str:
        """The tier that answered. Returns when the prefetches that follow are done, unless the gate is shut."""
        request = SearchRequest("zoo", text, limit, page * limit)
        answer = await self.searcher.search(who, request, sticky_key=sticky_key)
        self.prefetcher.observe(who, request, answer, load, sticky_key)
        if self.embedder.gate.is_set():
            await asyncio.gather(*under_way())
        self.now_s += 1
        return answer.cache

    async def read(self, text: str, pages: int, who: Principal = ANN, load: float = 0.0) -> list[str]:
        """The tiers that answered each page, from an empty cache."""
        await self.cache.clear()
        self.now_s += 10_000
        return [await self.ask(text, page, who, load) for page in range(pages)]

    def count(self, name: str, **labels: str) -> float:
        return counted(self.meter, f"aidocs_prefetches_{name}", **labels)[""]

    def useful_ratio(self) -> float | None:
        return self.prefetcher.usefulness.ratio()


def under_way() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "prefetch"]


async def nothing_runs() -> None:
    deadline_s = time.monotonic() + WAIT_S
    while asyncio.all_tasks() - {asyncio.current_task()}:
        assert time.monotonic() < deadline_s, asyncio.all_tasks()
        await asyncio.sleep(0.001)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[VectorStore]:
    edge = EdgeStore.open(tmp_path, StoreSettings())
    for who in (ANN, BOB):
        await edge.write(who.scope("zoo"), SPACE, [document(f"d{n}", f"{w} at night") for n, w in enumerate(WORDS)])
    yield edge
    await edge.close()


async def test_turned_pages_are_made_ready_and_reported_as_useful(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    assert await service.read("cats", 2) == ["miss", "miss"]
    assert service.useful_ratio() is None
    for word in ("dogs", "birds", "cats"):
        assert await service.read(word, 2) == ["miss", "l1"], "for queries never requested before too"
    assert service.useful_ratio() == pytest.approx(1)
    assert service.count("total", outcome="computed") == service.count("useful_total") == 3
    embedded = [(text, lane) for text, lane in service.embedder.texts if text == "dogs"]
    assert embedded == [("dogs", Lane.INTERACTIVE), ("dogs", Lane.BULK)]
    stage = counted(service.meter, "aidocs_stage_seconds_count", stage="search", lane="interactive")
    assert stage == {"": 5}, "users' own searches: 2 and 3 × 1"


async def test_habits_differ_by_page_and_by_client(store: VectorStore) -> None:
    service = Service(store)
    tiers = [[await service.ask(word, page) for page in range(3)] for word in WORDS]
    assert tiers[0] == ["miss"] * 3
    assert tiers[-1] == ["miss", "l1", "l1"]
    computed = service.count("total", outcome="computed")
    assert service.count("useful_total") == computed > 4
    assert await service.ask("cats", limit=3) == "miss"
    assert service.count("total", outcome="computed") == computed, "clients with another limit have turned no page"


async def test_the_release_of_the_users_search_answers_the_prefetch(store: VectorStore) -> None:
    narrow = SearchSettings(profiles={"default": SearchProfile(candidates=7)})
    releases = {"": release_of(SPACE), "canary": release_of(SPACE, narrow)}
    service = Service(store, lambda _principal, _collection, sticky_key: releases[sticky_key], half_life_s=1e6)
    await service.read("cats", 2)
    await service.ask("dogs", sticky_key="canary")
    assert await service.ask("dogs", 1, sticky_key="canary") == "l1"
    assert await service.ask("dogs", 1) == "miss"


async def test_nothing_is_prefetched_after_the_last_page(store: VectorStore) -> None:
    service = Service(store, least_confidence=0.0)
    for word in WORDS:
        for page in (0, 1):  # of 8 passages
            await service.ask(word, page, limit=5)
    await service.ask("cats", 2, limit=5)  # so that the second page has been turned too
    before = len(service.embedder.texts)
    await service.ask("purr", 1, limit=5)
    assert service.embedder.texts[before:] == [("purr", Lane.INTERACTIVE)]


async def test_useless_prefetching_switches_itself_off_apart_from_probes_and_comes_back(store: VectorStore) -> None:
    service = Service(store, least_confidence=0.0, least_useful_ratio=0.5, half_life_s=1e8)

    async def prefetched(visits: int, pages: int) -> float:
        before = service.count("total", outcome="computed")
        for visit in range(visits):
            await service.read(WORDS[visit % len(WORDS)], pages)
        return service.count("total", outcome="computed") - before

    assert await prefetched(20, pages=1) > 8, "it begins switched on"
    ratio = service.useful_ratio()
    assert ratio is not None and ratio < 0.5
    assert not service.prefetcher.usefulness.is_on(service.now_s)
    assert await prefetched(80, pages=1) == 4, "one in 20"
    assert service.count("skipped_total", reason="useless") >= 76
    service.now_s += 1e9  # its failures are forgotten
    assert await prefetched(20, pages=2) >= 18
    ratio = service.useful_ratio()
    assert ratio is not None and ratio > 0.4


async def test_tenants_are_apart(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    for _ in range(3):
        await service.read("cats", 2)
    made = service.count("total", outcome="computed")
    assert await service.read("cats", 2, BOB) == ["miss", "miss"]
    assert service.count("total", outcome="computed") == made
    assert await service.read("cats", 2, ANA) == ["miss", "l1"], "users of a tenant share"


@pytest.mark.parametrize("settings", [{"enabled": False}, {"least_confidence": 0.9}])
async def test_settings_hold_it_back(store: VectorStore, settings: dict[str, Any]) -> None:
    service = Service(store, **settings)
    for _ in range(4):
        assert await service.read("cats", 2) == ["miss", "miss"]


async def test_load_stops_it(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, max_load=0.5)
    for _ in range(3):
        assert await service.read("cats", 2, load=0.51) == ["miss", "miss"]
    assert service.count("skipped_total", reason="load") == 2
    assert await service.read("cats", 2, load=0.5) == ["miss", "l1"], "learning went on"


async def test_a_prefetch_that_a_write_made_stale_is_useless(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    await service.read("cats", 2)
    await service.read("cats", 1)
    await store.write(ANN.scope("zoo"), SPACE, [document("new", "dogs sleep")])
    assert await service.ask("cats", 1) == "miss"
    assert service.useful_ratio() == 0


async def test_an_unused_prefetch_is_repeated_only_after_a_while(store: VectorStore) -> None:
    service = Service(store, least_confidence=0.0)
    for pause_s, made in ((0, 1), (0, 1), (REPEAT_AFTER_S, 2)):
        await service.cache.clear()
        service.now_s += pause_s
        await service.ask("cats")
        assert service.count("total", outcome="computed") == made


async def test_answers_that_are_not_cached_start_no_prefetch(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: Any) -> None:
        return None

    monkeypatch.setattr(store, "version", none)
    monkeypatch.setattr(store, "version_now", lambda _: None)
    service = Service(store, least_confidence=0.0)
    for _ in range(3):
        await service.read("cats", 2)
    assert {lane for _, lane in service.embedder.texts} == {Lane.INTERACTIVE}


async def test_a_user_who_requests_the_page_meanwhile_does_not_wait_behind_the_prefetch(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=60)
    await service.read("cats", 2)
    service.embedder.gate.clear()
    await service.read("cats", 1)
    await service.ask("cats")  # again: its next page is being prefetched already
    assert len(under_way()) == 1
    await asyncio.sleep(0)
    assert await asyncio.wait_for(service.ask("cats", 1), WAIT_S) == "miss"
    service.embedder.gate.set()
    await asyncio.gather(*under_way())
    assert await service.ask("cats", 1) == "l1"
    assert service.useful_ratio() == 0, "it came too late"


async def test_after_close_nothing_runs_and_nothing_begins(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=60)
    for _ in range(3):
        await service.read("songs", 2)
    skipped, words = service.count("skipped_total", reason="busy"), WORDS[:6]
    service.embedder.gate.clear()
    await service.cache.clear()
    for word in words:
        await service.ask(word)
    assert len(under_way()) == MAX_RUNNING
    assert service.count("skipped_total", reason="busy") - skipped == len(words) - MAX_RUNNING
    await service.prefetcher.close()
    await service.prefetcher.close()
    assert under_way() == []
    await service.cache.close()
    await nothing_runs()
    await service.ask("cats")
    assert under_way() == []


@pytest.mark.parametrize("error", [None, EngineUnavailable("gone"), RuntimeError("a mistake")])
async def test_a_prefetch_that_fails_or_is_late_is_counted_and_disturbs_nobody(
    store: VectorStore, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=0.05 if error is None else 60)
    await service.read("cats", 2)
    service.embedder.error = error
    if error is None:
        service.embedder.gate.clear()
    with caplog.at_level(logging.ERROR):
        await service.read("dogs", 1)
        await asyncio.gather(*under_way())
    assert service.count("total", outcome="failed") == 1
    assert service.useful_ratio() == 0
    assert [r.getMessage() for r in caplog.records] == ["a prefetch failed"] * isinstance(error, RuntimeError)
    assert await service.ask("dogs", 1) == "miss"
    await nothing_runs()
