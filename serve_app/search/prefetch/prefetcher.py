"""Predictive prefetch: what is likely to be asked next is searched ahead, while little is under way.

It is asked of the Searcher itself, so its answer is kept under the collection's version as any other; in the bulk lane,
so who asks for it meanwhile does not wait for it. Everything here is of one process: what a session asks of another
replica is not seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from serve_app.cache.keys import digest
from serve_app.cache.tiered import MISS
from serve_app.errors import PlatformError
from serve_app.flow.deadline import deadline
from serve_app.flow.recent import Recent
from serve_app.search.prefetch.follow_ups import FollowUps
from serve_app.search.prefetch.steps import PageStep, SearchStep
from serve_app.search.prefetch.usefulness import PrefetchKind, Usefulness
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import PrefetchSettings
from serve_app.telemetry.catalogue.prefetch import PREFETCHES, PREFETCHES_SKIPPED, PREFETCHES_USEFUL
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Principal

logger = logging.getLogger(__name__)

MAX_UNDER_WAY = 4  # of one process
MAX_SESSIONS = 4_096
MAX_UNUSED = 1_024
MAX_STEP_BYTES = 1_024  # of a request in its canonical form; longer ones are seldom asked again
AGAIN_AFTER_S = 60.0  # what nobody used is not searched ahead again before that
SESSION = b"aidocs-session-1"


@dataclass(frozen=True, slots=True)
class Visit:
    """Where a session was last: the first page of its question."""

    step: SearchStep
    at_s: float


@dataclass(frozen=True, slots=True)
class Unused:
    """Made ahead, and not asked for since."""

    kind: PrefetchKind
    made_at_s: float


@dataclass(slots=True)
class Running:
    """is_late: somebody has asked for it meanwhile, and has searched for himself."""

    kind: PrefetchKind
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
        self._pages: FollowUps[PageStep] = FollowUps(settings.half_life_s)
        self._queries: FollowUps[SearchStep] = FollowUps(settings.half_life_s)
        self._sessions: Recent[bytes, Visit] = Recent(MAX_SESSIONS)
        self._unused: Recent[SearchStep, Unused] = Recent(MAX_UNUSED)
        self._running: dict[SearchStep, Running] = {}
        self._is_closed = False
        self.usefulness = Usefulness(settings.least_useful_ratio, settings.half_life_s)

    def observe(
        self, principal: Principal, session: str | None, request: SearchRequest, answer: SearchAnswer, load: float
    ) -> None:
        """Learns from a search that was just answered, and starts what is likely to follow. Never waits.

        session: what its client calls it, of this principal only; without one only next pages are foreseen. load:
        share of what may be under way which is, 0 to 1."""
        if not self._settings.enabled or self._is_closed or not answer.is_cacheable:
            return
        step, now_s = SearchStep.of(principal.tenant, request), self._clock()
        self._credit(step, answer, now_s)
        for kind, ahead in self._foreseen(principal, session, step, now_s):
            if self._is_known(ahead, now_s):
                continue
            reason = self._reason_against(kind, load, now_s)
            if reason is not None:
                self._meter.count(PREFETCHES_SKIPPED, kind=kind, reason=reason)
            elif kind is PrefetchKind.QUERY or len(answer.found.hits) == request.limit:  # else this page is the last
                self._start(kind, principal, ahead)

    async def close(self) -> None:
        """Ends what is under way. Idempotent."""
        self._is_closed = True
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _credit(self, step: SearchStep, answer: SearchAnswer, now_s: float) -> None:
        """A prefetch is useful if the first who asks is answered from it, not if a write made it stale before or he
        was earlier."""
        if (running := self._running.get(step)) is not None:
            running.is_late = True
        if (unused := self._unused.pop(step)) is not None and answer.cache != MISS:
            self.usefulness.used(unused.kind, unused.made_at_s, now_s)
            self._meter.count(PREFETCHES_USEFUL, kind=unused.kind)

    def _foreseen(
        self, principal: Principal, session: str | None, step: SearchStep, now_s: float
    ) -> Iterator[tuple[PrefetchKind, SearchStep]]:
        """What is likely enough to follow, learning from this step on the way."""
        if self._page_is_likely(step, now_s):
            yield PrefetchKind.PAGE, step.next_page()
        if session is not None:
            query = self._likely_query(principal, session, step.first_page(), now_s)
            if query is not None:
                yield PrefetchKind.QUERY, query

    def _page_is_likely(self, step: SearchStep, now_s: float) -> bool:
        request, page = step.request, PageStep.of(step.tenant, step.request)
        if request.offset >= request.limit:
            before = PageStep.of(step.tenant, replace(request, offset=request.offset - request.limit))
            self._pages.follow(before, page, now_s)
        likely = self._pages.likely(page, now_s)
        self._pages.take(page, now_s)
        return likely is not None and likely.share >= self._settings.least_confidence

    def _likely_query(self, principal: Principal, session: str, query: SearchStep, now_s: float) -> SearchStep | None:
        """None as well if this is the query that the session was at: its follow-up was foreseen then."""
        key = digest(SESSION, principal.tenant, principal.subject, query.request.collection, session)
        last = self._sessions.get(key)
        if len(query.canonical) > MAX_STEP_BYTES:
            self._sessions.pop(key)
            return None
        self._sessions.put(key, Visit(query, now_s))
        if last is not None and now_s - last.at_s <= self._settings.session_idle_s:
            if last.step == query:
                return None
            self._queries.follow(last.step, query, now_s)
        likely = self._queries.likely(query, now_s)
        self._queries.take(query, now_s)
        return likely.step if likely is not None and likely.share >= self._settings.least_confidence else None

    def _is_known(self, ahead: SearchStep, now_s: float) -> bool:
        unused = self._unused.look(ahead)
        return ahead in self._running or (unused is not None and now_s - unused.made_at_s < AGAIN_AFTER_S)

    def _reason_against(self, kind: PrefetchKind, load: float, now_s: float) -> str | None:
        """As the metric names it."""
        if load > self._settings.max_load:
            return "load"
        if len(self._running) >= MAX_UNDER_WAY:
            return "busy"
        return None if self.usefulness.permits(kind, now_s) else "useless"

    def _start(self, kind: PrefetchKind, principal: Principal, ahead: SearchStep) -> None:
        task = asyncio.get_running_loop().create_task(self._prefetch(principal, ahead), name="prefetch")
        self._running[ahead] = Running(kind, task)

    async def _prefetch(self, principal: Principal, ahead: SearchStep) -> None:
        outcome = None
        try:
            outcome = await self._outcome(principal, ahead)
        finally:
            running, now_s = self._running.pop(ahead), self._clock()
            if outcome is not None:
                self._settle(ahead, running, outcome, now_s)

    async def _outcome(self, principal: Principal, ahead: SearchStep) -> str:
        """As the metric names it."""
        timeout_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                with deadline(asyncio.get_running_loop().time() + timeout_s):
                    answer = await self._searcher.search(principal, ahead.request, Lane.BULK)
        except (PlatformError, TimeoutError):
            return "failed"
        except Exception:  # a mistake of ours; nobody waits who would be told
            logger.exception("a prefetch failed")
            return "failed"
        return "computed" if answer.cache == MISS else "kept"

    def _settle(self, ahead: SearchStep, running: Running, outcome: str, now_s: float) -> None:
        """What was kept anyway was no work and is no use: it does not count."""
        self._meter.count(PREFETCHES, kind=running.kind, outcome=outcome)
        if outcome == "kept":
            return
        self.usefulness.made(running.kind, now_s)
        if outcome == "computed" and not running.is_late:
            self._unused.put(ahead, Unused(running.kind, now_s))
