"""Replays a session log through the real Searcher, cache and Prefetcher in this process.

The cache and the Prefetcher use the log's clock. The replay awaits prefetches before the next search, because users
read for seconds. A cache entry lives for a day, and a write every WRITE_EVERY_S makes all cached results of the
collection stale, as in production.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluate.ranking import COLLECTION
from serve_app.assembly import Assembly, assemble
from serve_app.cache.tiered import MISS, Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.search.prefetch.prefetcher import Prefetcher
from serve_app.search.request import SearchRequest
from serve_app.settings import MIB, PrefetchSettings
from serve_app.telemetry.catalogue.prefetch import PREFETCHES, PREFETCHES_USEFUL
from serve_app.telemetry.meter import Meter
from serve_app.types import LOCAL_PRINCIPAL, Document
from tests.bench.prefetch_replay.sessions import LoggedSearch

PAGE_HITS = 10
DAY_S = 86_400.0
WRITE_EVERY_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """prefetches: number of computed and failed ones. cpu_s: processor time of the process for users' searches and for
    prefetches."""

    searches: int
    hits: int
    prefetches: float
    useful: float
    waits_ms: tuple[float, ...]
    searches_cpu_s: float
    prefetches_cpu_s: float

    def wait_ms(self, percentile: float) -> float:
        return float(np.percentile(self.waits_ms, percentile))

    @property
    def mean_wait_ms(self) -> float:
        return float(np.mean(self.waits_ms))


async def replay(log: Sequence[LoggedSearch], assembly: Assembly, *, prefetch: bool) -> Replayed:
    """assembly: without a cache."""
    now_s = 0.0
    meter = Meter()
    cache = Tiered((MemoryTier(500 * MIB, DAY_S, clock=lambda: now_s),), meter)
    models = assembly.models.values()
    searcher = assemble(assembly.settings, assembly.store, models, cache=cache, meter=meter).searcher()
    prefetcher = Prefetcher(searcher, PrefetchSettings(enabled=prefetch), meter, clock=lambda: now_s)
    waits_ms: list[float] = []
    hits, searches_cpu_s, prefetches_cpu_s, written_at_s = 0, 0.0, 0.0, 0.0
    for search in log:
        now_s = search.at_s
        if now_s - written_at_s >= WRITE_EVERY_S:
            written_at_s = now_s
            await write(assembly, written_at_s)
        request = SearchRequest(COLLECTION, search.query, PAGE_HITS, search.page * PAGE_HITS)
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        answer = await searcher.search(LOCAL_PRINCIPAL, request)
        waits_ms.append(1e3 * (time.perf_counter() - begun_s))
        answered_cpu_s = time.process_time()
        prefetcher.observe(LOCAL_PRINCIPAL, request, answer, load=0.0)
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "prefetch"))
        searches_cpu_s += answered_cpu_s - begun_cpu_s
        prefetches_cpu_s += time.process_time() - answered_cpu_s
        hits += answer.cache != MISS
    await prefetcher.close()
    await cache.close()
    prefetches = total(meter, PREFETCHES.name, "computed") + total(meter, PREFETCHES.name, "failed")
    useful = total(meter, PREFETCHES_USEFUL.name)
    return Replayed(len(log), hits, prefetches, useful, tuple(waits_ms), searches_cpu_s, prefetches_cpu_s)


async def write(assembly: Assembly, at_s: float) -> None:
    note = Document(id="replay-note", text=f"Written {at_s:.0f} seconds after the start of the log.")
    await assembly.indexer().index(LOCAL_PRINCIPAL.scope(COLLECTION), [note])


def total(meter: Meter, name: str, outcome: str | None = None) -> float:
    return sum(
        sample.value
        for sample in meter.samples()
        if sample.name == name and (outcome is None or sample.labels["outcome"] == outcome)
    )
