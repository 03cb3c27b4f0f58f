"""Predictive prefetch: the next page of results is searched before the user turns to it, while the load is low.

A prefetch is a search like any other, so its answer is cached under the collection's version. It runs in the bulk lane,
so a user who requests the same page meanwhile does not wait behind it. Each process learns from its own requests only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from serve_app.cache.keys import digest
from serve_app.cache.tiered import MISS
from serve_app.errors import PlatformError
from serve_app.flow.deadline import deadline
from serve_app.flow.recent import Recent
from serve_app.search.prefetch.page_turns import PageTurns
from serve_app.search.prefetch.usefulness import Usefulness
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import PrefetchSettings
from serve_app.telemetry.catalogue.prefetch import PREFETCHES, PREFETCHES_SKIPPED, PREFETCHES_USEFUL
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Principal

logger = logging.getLogger(__name__)

MAX_RUNNING = 4  # in one process
MAX_UNUSED = 1_024
REPEAT_AFTER_S = 60.0  # an unused prefetch is not repeated before this has passed
PREFETCH = b"aidocs-prefetch1"


@dataclass(slots=True)
class RunningPrefetch:
    """is_late: a user has requested the page meanwhile."""

    task: asyncio.Task[None]
    is_late: bool = False


class Prefetcher:
    """Belongs to one event loop; call `close` there. clock: monotonic, in seconds."""

    def __init__(
        self,
        searcher: Searcher,
        settings: PrefetchSettings,
        meter: Meter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._searcher = searcher
        self._settings = settings
        self._meter = meter
        self._clock = clock
        self._page_turns = PageTurns(settings.half_life_s)
        self._unused: Recent[bytes, float] = Recent(MAX_UNUSED)  # when each was made
        self._running: dict[bytes, RunningPrefetch] = {}
        self._is_closed = False
        self.usefulness = Usefulness(settings.least_useful_ratio, settings.half_life_s)

    def observe(
        self, principal: Principal, request: SearchRequest, answer: SearchAnswer, load: float, sticky_key: str = ""
    ) -> None:
        """Learn from a search that was just answered, and start a search of its next page if that is likely to be
        requested. Never waits. load: used part of the limits of concurrent requests, 0 to 1. sticky_key: of the search,
        so that the same release answers its next page."""
        if not self._settings.enabled or self._is_closed or not answer.is_cacheable:
            return
        now_s = self._clock()
        self._credit(key_of(principal, request), answer, now_s)
        probability = self._page_turns.view(principal.tenant, request, now_s)
        if probability < self._settings.least_confidence or len(answer.found.hits) < request.limit:
            return  # a page with fewer hits than its limit is the last one
        following = replace(request, offset=request.offset + request.limit)
        key = key_of(principal, following)
        made_at_s = self._unused.peek(key)
        if key in self._running or (made_at_s is not None and now_s - made_at_s < REPEAT_AFTER_S):
            return
        reason = self._reason_to_skip(load, now_s)
        if reason is None:
            prefetch = self._prefetch(principal, following, sticky_key, key)
            task = asyncio.get_running_loop().create_task(prefetch, name="prefetch")
            self._running[key] = RunningPrefetch(task)
        else:
            self._meter.count(PREFETCHES_SKIPPED, reason=reason)

    async def close(self) -> None:
        """Cancel the running prefetches and start no more. Idempotent."""
        self._is_closed = True
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _credit(self, key: bytes, answer: SearchAnswer, now_s: float) -> None:
        """A prefetch is useful if the first request for its page is answered from the cache. It is not if the request
        came before it was done, or if a write had made it stale."""
        if (running := self._running.get(key)) is not None:
            running.is_late = True
        if (made_at_s := self._unused.pop(key)) is not None and answer.cache != MISS:
            self.usefulness.used(now_s, made_at_s)
            self._meter.count(PREFETCHES_USEFUL)

    def _reason_to_skip(self, load: float, now_s: float) -> str | None:
        """The metric's label."""
        if load > self._settings.max_load:
            return "load"
        if len(self._running) >= MAX_RUNNING:
            return "busy"
        return None if self.usefulness.permits(now_s) else "useless"

    async def _prefetch(self, principal: Principal, request: SearchRequest, sticky_key: str, key: bytes) -> None:
        try:
            outcome = await self._search(principal, request, sticky_key)
        finally:
            running = self._running.pop(key)
        self._record(key, running, outcome)

    async def _search(self, principal: Principal, request: SearchRequest, sticky_key: str) -> str:
        """Returns the outcome as the metric's label."""
        timeout_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                with deadline(asyncio.get_running_loop().time() + timeout_s):
                    answer = await self._searcher.search(principal, request, Lane.BULK, sticky_key)
        except (PlatformError, TimeoutError):
            return "failed"
        except Exception:  # a bug; no caller would see it
            logger.exception("a prefetch failed")
            return "failed"
        return "computed" if answer.cache == MISS else "cached"

    def _record(self, key: bytes, running: RunningPrefetch, outcome: str) -> None:
        """An answer that was in the cache already cost nothing and gained nothing, so it counts for neither."""
        self._meter.count(PREFETCHES, outcome=outcome)
        if outcome == "cached":
            return
        now_s = self._clock()
        self.usefulness.made(now_s)
        if outcome == "computed" and not running.is_late:
            self._unused.put(key, now_s)


def key_of(principal: Principal, request: SearchRequest) -> bytes:
    """The same for equal requests of one tenant: they share an answer in the cache."""
    return digest(PREFETCH, principal.tenant, request.canonical)
