"""An engine's forward passes, shared by all who wait for one: continuous batching.

Texts of all calls wait in two lanes. Whenever the engine is free for a pass, that is composed of what waits then, so a
batch is as large as the load makes it, an idle service adds no wait, and a big upload delays a search by one pass.
(Continuous batching as in Orca, OSDI 2022, at the granularity of an encoder's pass.)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Encoding

from serve_app.embedding.engine import Engine
from serve_app.errors import EngineUnavailable, Overloaded
from serve_app.telemetry.catalogue.requests import PASS_TOKENS, STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Vector

LOOK_TEXTS = 256  # at the head of a lane, from which a pass is composed: more of them pad less
BULK_PASS_IN = 8  # one pass in so many is for bulk while both lanes wait: it slows down and does not starve


@dataclass(eq=False, slots=True)
class EngineCall:
    """One `infer`: its rows of the answer are filled pass by pass. missing: rows that no pass has ended for yet. error:
    of the first pass that failed."""

    future: asyncio.Future[Vector]
    answer: Vector
    missing: int
    lane: Lane
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class WaitingText:
    """A text that waits."""

    call: EngineCall
    number: int
    encoding: Encoding
    since_s: float  # by time.perf_counter


@dataclass(eq=False, slots=True)
class Lanes:
    """What waits, by lane. Not thread-safe."""

    rows: dict[Lane, deque[WaitingText]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    passes: int = 0

    def next_lane(self) -> Lane | None:
        """Drops rows whose caller has gone."""
        for waiting in self.rows.values():
            while waiting and waiting[0].call.future.done():
                waiting.popleft()
        waits = [lane for lane in Lane if self.rows[lane]]
        if not waits:
            return None
        self.passes += 1
        return waits[-1] if self.passes % BULK_PASS_IN == 0 else waits[0]

    def take(self, engine: Engine, workers: int) -> list[WaitingText]:
        """The rows of the next pass, the oldest row of its lane among them, where so many workers are free; none if
        none wait."""
        while (lane := self.next_lane()) is not None:
            waiting = self.rows[lane]
            head = [waiting.popleft() for _ in range(min(LOOK_TEXTS, len(waiting)))]
            head = [row for row in head if not row.call.future.done()]
            for batch in engine.compose([len(row.encoding) for row in head], workers):
                if 0 in batch:
                    chosen = set(batch)
                    waiting.extendleft(reversed([row for place, row in enumerate(head) if place not in chosen]))
                    return [head[place] for place in batch]
        return []

    def clear(self) -> list[EngineCall]:
        calls = {row.call for waiting in self.rows.values() for row in waiting}
        for waiting in self.rows.values():
            waiting.clear()
        return list(calls)


class Passes:
    """The engine computes in threads of its own, so the event loop stays free."""

    def __init__(self, engine: Engine, max_waiting_texts: int, meter: Meter) -> None:
        """max_waiting_texts: in each lane, so that a full one for bulk refuses no search."""
        self._engine = engine
        self._meter = meter
        self._max_waiting_texts = max_waiting_texts
        self._threads = ThreadPoolExecutor(engine.passes_at_once, thread_name_prefix="embed")
        self._lock = threading.Lock()  # guards the rest
        self._lanes = Lanes()
        self._computing = 0  # threads that look for passes
        self._passes = 0  # under way
        self._closed = False

    def infer(self, encodings: Sequence[Encoding], lane: Lane, *, urgent: bool = False) -> asyncio.Future[Vector]:
        """One row per text, in order: (n, dim) float32. A call with more texts than may wait is taken when nothing else
        waits in its lane. urgent: before all that waits. Raises Overloaded, EngineUnavailable."""
        future: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        answer = np.empty((len(encodings), self._engine.dim), dtype=np.float32)
        if not encodings:
            future.set_result(answer)
            return future
        call = EngineCall(future, answer, len(encodings), lane)
        now_s = time.perf_counter()
        self._put([WaitingText(call, number, each, now_s) for number, each in enumerate(encodings)], lane, urgent)
        return future

    def close(self) -> None:
        """Waits for the passes that are running; calls that wait get EngineUnavailable. Idempotent."""
        with self._lock:
            self._closed = True
            abandoned = self._lanes.clear()
        for call in abandoned:
            settle(call, EngineUnavailable(f"{self._engine.model.name} is closed"))
        self._threads.shutdown(wait=True)

    def _put(self, rows: Sequence[WaitingText], lane: Lane, urgent: bool) -> None:
        with self._lock:
            if self._closed:
                raise EngineUnavailable(f"{self._engine.model.name} is closed")
            waiting = self._lanes.rows[lane]
            if waiting and not urgent and len(waiting) + len(rows) > self._max_waiting_texts:
                raise Overloaded(f"{len(waiting)} texts are waiting for {self._engine.model.name}; try again later")
            if urgent:
                waiting.extendleft(rows)
            else:
                waiting.extend(rows)
            for _ in range(min(self._engine.passes_at_once - self._computing, len(rows))):
                self._computing += 1
                self._threads.submit(self._compute)

    # In the engine's threads.

    def _compute(self) -> None:
        """Pass after pass, until nothing waits."""
        while rows := self._next_pass():
            error: Exception | None = None
            try:
                for row, vector in zip(rows, self._infer(rows), strict=True):
                    row.call.answer[row.number] = vector
            except Exception as caught:  # whatever it was, nobody may wait for ever
                error = caught
            for call in self._end_pass(rows, error):
                settle(call, call.error)

    def _infer(self, rows: Sequence[WaitingText]) -> Vector:
        """One pass, whose rows are of one lane."""
        lane, now_s = rows[0].call.lane, time.perf_counter()
        for row in rows:
            self._meter.observe(STAGE_SECONDS, now_s - row.since_s, stage="queue", lane=lane)
        encodings = [row.encoding for row in rows]
        self._meter.observe(PASS_TOKENS, sum(len(encoding) for encoding in encodings), counted="real")
        self._meter.observe(PASS_TOKENS, self._engine.width(encodings) * len(rows), counted="padded")
        with self._meter.time(STAGE_SECONDS, stage="infer", lane=lane):
            return self._engine.infer(encodings)

    def _next_pass(self) -> list[WaitingText]:
        with self._lock:
            rows = self._lanes.take(self._engine, self._engine.passes_at_once - self._passes)
            if rows:
                self._passes += 1
            else:
                self._computing -= 1
            return rows

    def _end_pass(self, rows: Sequence[WaitingText], error: Exception | None) -> set[EngineCall]:
        """The calls that nothing is missing of any more, or that have failed."""
        with self._lock:
            self._passes -= 1
            for row in rows:
                row.call.missing -= 1
                row.call.error = row.call.error or error
            return {row.call for row in rows if row.call.error or not row.call.missing}


def settle(call: EngineCall, error: Exception | None) -> None:
    """From any thread. A caller that has gone has cancelled its future, which must stay as it is."""

    def set_it() -> None:
        if call.future.done():
            return
        if error is None:
            call.future.set_result(call.answer)
        else:
            call.future.set_exception(error)

    with suppress(RuntimeError):  # its loop is closed: nobody waits
        call.future.get_loop().call_soon_threadsafe(set_it)
