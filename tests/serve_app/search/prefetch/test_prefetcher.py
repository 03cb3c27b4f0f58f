"""Prefetching with the real Searcher, cache and embedded store: it learns what is repeated, ends itself where it is of
no use, keeps tenants apart, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import random
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
from serve_app.search.prefetch.prefetcher import MAX_UNDER_WAY, Prefetcher
from serve_app.search.prefetch.usefulness import PrefetchKind
from serve_app.search.request import SearchRequest
from serve_app.settings import MIB, PrefetchSettings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, Principal
from tests.contracts.corpus import SPACE, document, embed
from tests.serve_app.search.searchers import make_searcher
from tests.serve_app.telemetry.counted import counted

ANN, ANA, BOB = Principal("acme", "ann"), Principal("acme", "ana"), Principal("rival", "bob")
WORDS = ["cats", "dogs", "birds", "fish", "mice", "songs", "nights", "cat food"]
WAIT_S = 10.0


class GatedEmbedder:
    """The corpus's own vectors. While the gate is shut, texts of the bulk lane wait; `error` is raised there."""

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
    """A replica's search with prefetching, its clock in our hands."""

    def __init__(self, store: VectorStore, **settings: Any) -> None:
        self.embedder, self.meter, self.now_s = GatedEmbedder(), Meter(), 0.0
        self.cache = Tiered((MemoryTier(8 * MIB, ttl_s=600),))
        searcher = make_searcher(store, self.embedder, cache=self.cache, meter=self.meter)
        self.searcher = searcher
        self.prefetcher = Prefetcher(
            searcher, PrefetchSettings(**{"enabled": True} | settings), self.meter, clock=lambda: self.now_s
        )

    async def ask(
        self, text: str, session: str | None = "s", who: Principal = ANN, load: float = 0.0, **fields: Any
    ) -> str:
        """Where the answer came from. What is prefetched then is waited for, unless the gate is shut."""
        request = SearchRequest("zoo", text, **fields)
        answer = await self.searcher.search(who, request)
        self.prefetcher.observe(who, session, request, answer, load)
        if self.embedder.gate.is_set():
            await asyncio.gather(*under_way())
        self.now_s += 1
        return answer.cache

    async def visit(self, *texts: str, session: str = "s", who: Principal = ANN, load: float = 0.0) -> list[str]:
        """A path in a session after everything that was kept has gone."""
        await self.cache.clear()
        self.now_s += 10_000
        return [await self.ask(text, session, who, load) for text in texts]

    def count(self, name: str, **labels: str) -> float:
        return counted(self.meter, f"aidocs_prefetches_{name}", **labels)[""]


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


async def test_a_repeated_path_is_made_ready_and_reported_as_useful(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    assert await service.visit("cats", "dogs", "birds") == ["miss", "miss", "miss"]
    assert service.prefetcher.usefulness.ratio(PrefetchKind.QUERY) is None
    for _ in range(3):
        assert await service.visit("cats", "dogs", "birds") == ["miss", "l1", "l1"]
    assert service.prefetcher.usefulness.ratio(PrefetchKind.QUERY) == pytest.approx(1)
    assert service.count("total", kind="query", outcome="computed") == service.count("useful_total", kind="query") == 6
    assert service.count("total", kind="page", outcome="computed") == 0
    assert {lane for text, lane in service.embedder.texts if text == "cats"} == {Lane.INTERACTIVE}
    assert [lane for text, lane in service.embedder.texts if text == "dogs"].count(Lane.BULK) == 3
    stage = counted(service.meter, "aidocs_stage_seconds_count", stage="search", lane="interactive")
    assert stage == {"": 6}, "users' own searches: 3 and 3 × 1"


async def test_turned_pages_are_made_ready_for_questions_never_asked_before_and_without_a_session(
    store: VectorStore,
) -> None:
    service = Service(store)
    tiers = [[await service.ask(word, None, limit=2, offset=offset) for offset in (0, 2, 4)] for word in WORDS]
    assert tiers[0] == ["miss"] * 3
    assert tiers[-1] == ["miss", "l1", "l1"]
    computed = service.count("total", kind="page", outcome="computed")
    assert service.count("useful_total", kind="page") == computed > 4
    assert await service.ask("cats", None, limit=3) == "miss"
    assert service.count("total", kind="page", outcome="computed") == computed, "others who ask otherwise turn none"


async def test_there_is_no_page_behind_the_last(store: VectorStore) -> None:
    service = Service(store, least_confidence=0.0)
    offsets = [0, 5]  # of 8 passages
    for word in WORDS:
        for offset in offsets:
            await service.ask(word, None, limit=5, offset=offset)
    await service.ask("cats", None, limit=5, offset=10)  # so that the second page has been turned, too
    before = len(service.embedder.texts)
    await service.ask("purr", None, limit=5, offset=5)
    assert service.embedder.texts[before:] == [("purr", Lane.INTERACTIVE)]


async def test_where_it_is_of_no_use_it_ends_but_for_probes_and_comes_back(store: VectorStore) -> None:
    service = Service(store, least_confidence=0.0, least_useful_ratio=0.5, half_life_s=1e6)
    chance = random.Random(7)

    async def rounds(number: int, texts: list[str] | None = None) -> float:
        """How many were prefetched on the way."""
        before = service.count("total", kind="query", outcome="computed")
        for _ in range(number):
            await service.visit(*(texts or chance.sample(WORDS, 2)))
        return service.count("total", kind="query", outcome="computed") - before

    assert await rounds(40) > 20, "it begins enabled"
    await rounds(40)
    ratio = service.prefetcher.usefulness.ratio(PrefetchKind.QUERY)
    assert ratio is not None and ratio < 0.5
    assert not service.prefetcher.usefulness.is_on(PrefetchKind.QUERY, service.now_s)
    assert 1 <= await rounds(40) <= 8, "of 80 that it might"
    assert service.count("skipped_total", kind="query", reason="useless") > 60
    service.now_s += 10e6  # its failures, and what it had learned, are forgotten
    assert await rounds(20, ["cats", "dogs"]) >= 18
    ratio = service.prefetcher.usefulness.ratio(PrefetchKind.QUERY)
    assert ratio is not None and ratio > 0.4


async def test_tenants_and_principals_are_apart(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    for _ in range(3):
        await service.visit("cats", "dogs")
    made = service.count("total", kind="query", outcome="computed")
    assert await service.visit("cats", "dogs", who=BOB) == ["miss", "miss"]
    assert service.count("total", kind="query", outcome="computed") == made
    assert await service.visit("cats", "dogs", who=ANA, session="other") == ["miss", "l1"], "a tenant's people share"
    await service.cache.clear()
    for _ in range(4):  # two people whose clients chose the same name for their session
        await service.ask("fish", "same", ANN)
        await service.ask("mice", "same", ANA)
    service.now_s += 10_000
    await service.cache.clear()
    assert await service.ask("fish", "new") == "miss"
    assert await service.ask("mice", "new") == "miss"


@pytest.mark.parametrize("settings", [{"enabled": False}, {"least_confidence": 0.9}, {"session_idle_s": 0.5}])
async def test_settings_hold_it_back(store: VectorStore, settings: dict[str, Any]) -> None:
    service = Service(store, **settings)
    for _ in range(4):
        assert await service.visit("cats", "dogs") == ["miss", "miss"]


async def test_load_stops_it(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, max_load=0.5)
    for _ in range(3):
        assert await service.visit("cats", "dogs", load=0.51) == ["miss", "miss"]
    assert service.count("skipped_total", kind="query", reason="load") == 2
    assert await service.visit("cats", "dogs", load=0.5) == ["miss", "l1"], "learning went on"


async def test_what_a_write_made_stale_was_of_no_use(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6)
    await service.visit("cats", "dogs")
    await service.visit("cats")
    await store.write(ANN.scope("zoo"), SPACE, [document("new", "dogs sleep")])
    assert await service.ask("dogs") == "miss"
    assert service.prefetcher.usefulness.ratio(PrefetchKind.QUERY) == 0


async def test_nothing_is_done_for_answers_that_are_not_kept(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: Any) -> None:
        return None

    monkeypatch.setattr(store, "version", none)
    monkeypatch.setattr(store, "version_now", lambda _: None)
    service = Service(store, least_confidence=0.0)
    for _ in range(3):
        await service.visit("cats", "dogs")
    assert {lane for _, lane in service.embedder.texts} == {Lane.INTERACTIVE}


async def test_who_asks_meanwhile_does_not_wait_behind_it(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=60)
    await service.visit("cats", "dogs")
    service.embedder.gate.clear()
    await service.visit("cats")
    service.prefetcher.observe(  # the same again is not prefetched again
        ANN, "s2", (cats := SearchRequest("zoo", "cats")), await service.searcher.search(ANN, cats), 0.0
    )
    assert len(under_way()) == 1
    await asyncio.sleep(0)
    assert await asyncio.wait_for(service.ask("dogs"), WAIT_S) == "miss"
    service.embedder.gate.set()
    await asyncio.gather(*under_way())
    assert await service.ask("dogs") == "l1"
    assert service.prefetcher.usefulness.ratio(PrefetchKind.QUERY) == 0, "it came too late"


async def test_after_close_nothing_runs_and_nothing_begins(store: VectorStore) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=60)
    for word in WORDS:
        await service.visit(word, f"{word} food", session=word)
    service.embedder.gate.clear()
    await service.cache.clear()
    for word in WORDS:
        await service.ask(word, f"{word} again")
    assert len(under_way()) == MAX_UNDER_WAY
    assert service.count("skipped_total", kind="query", reason="busy") == len(WORDS) - MAX_UNDER_WAY
    await service.prefetcher.close()
    await service.prefetcher.close()
    assert under_way() == []
    await service.cache.close()
    await nothing_runs()
    await service.ask("cats", "and again")
    assert under_way() == []


@pytest.mark.parametrize("error", [None, EngineUnavailable("gone"), RuntimeError("a mistake")])
async def test_what_fails_or_is_late_is_counted_and_disturbs_nobody(
    store: VectorStore, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(store, half_life_s=1e6, timeout_s=0.05 if error is None else 60)
    await service.visit("cats", "dogs")
    service.embedder.error = error
    if error is None:
        service.embedder.gate.clear()
    with caplog.at_level(logging.ERROR):
        await service.visit("cats")
        await asyncio.gather(*under_way())
    assert service.count("total", kind="query", outcome="failed") == 1
    assert service.prefetcher.usefulness.ratio(PrefetchKind.QUERY) == 0
    assert [r.getMessage() for r in caplog.records] == ["a prefetch failed"] * isinstance(error, RuntimeError)
    assert await service.ask("dogs") == "miss"
    await nothing_runs()
