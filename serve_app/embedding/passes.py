"""Continuous batching: concurrent calls share an engine's forward passes.

The texts of all calls wait in two lanes. Whenever the engine can run a pass, it takes a batch of the waiting texts.
Batches therefore grow with the load, an idle service adds no wait, and a big upload delays a search by one pass.
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

HEAD_TEXTS = 256  # a pass is composed from the first texts of a lane; a larger choice needs less padding
BULK_PASS_IN = 8  # while both lanes wait, one pass in 8 serves bulk, so that it slows down but does not starve


@dataclass(eq=False, slots=True)
class EngineCall:
    """One call of `infer`. Passes fill the rows of its answer. missing: rows not filled yet. error: the error of the
    first pass that failed."""

    future: asyncio.Future[Vector]
    answer: Vector
    missing: int
    lane: Lane
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class WaitingText:
    call: EngineCall
    number: int  # its row in the answer
    encoding: Encoding
    since_s: float  # by time.perf_counter


@dataclass(eq=False, slots=True)
class Lanes:
    """The waiting texts of each lane. Not thread-safe."""

    rows: dict[Lane, deque[WaitingText]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    passes: int = 0

    def next_lane(self) -> Lane | None:
        """The lane of the next pass; None if nothing waits. Drops leading rows whose caller has gone."""
        for waiting in self.rows.values():
            while waiting and waiting[0].call.future.done():
                waiting.popleft()
        waits = [lane for lane in Lane if self.rows[lane]]
        if not waits:
            return None
        self.passes += 1
        return waits[-1] if self.passes % BULK_PASS_IN == 0 else waits[0]

    def take(self, engine: Engine, workers: int) -> list[WaitingText]:
        """The rows of the next pass, which include the oldest row of its lane; empty if nothing waits. workers: how
        many passes can start now."""
        while (lane := self.next_lane()) is not None:
            waiting = self.rows[lane]
            head = [waiting.popleft() for _ in range(min(HEAD_TEXTS, len(waiting)))]
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
    """The engine computes in its own threads, so the event loop stays free."""

    def __init__(self, engine: Engine, max_waiting_texts: int, meter: Meter) -> None:
        """max_waiting_texts: limit for each lane, so that a full bulk lane never refuses a search."""
        self._engine = engine
        self._meter = meter
        self._max_waiting_texts = max_waiting_texts
        self._threads = ThreadPoolExecutor(engine.passes_at_once, thread_name_prefix="embed")
        self._lock = threading.Lock()  # guards the attributes below
        self._lanes = Lanes()
        self._computing = 0  # threads in `_compute`
        self._passes = 0  # running now
        self._closed = False

    def infer(self, encodings: Sequence[Encoding], lane: Lane, *, urgent: bool = False) -> asyncio.Future[Vector]:
        """One row per text, in order: (n, dim) float32. A call with more texts than may wait is accepted if nothing
        else waits in its lane. urgent: ahead of all waiting texts. Raises Overloaded, EngineUnavailable."""
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
        """Wait for running passes; waiting calls fail with EngineUnavailable. Idempotent."""
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

    # The methods below run in the engine's threads.

    def _compute(self) -> None:
        """Run passes until nothing waits."""
        while rows := self._next_pass():
            error: Exception | None = None
            try:
                for row, vector in zip(rows, self._infer(rows), strict=True):
                    row.call.answer[row.number] = vector
            except Exception as caught:  # any error must reach the callers, or they would wait forever
                error = caught
            for call in self._end_pass(rows, error):
                settle(call, call.error)

    def _infer(self, rows: Sequence[WaitingText]) -> Vector:
        """Run one pass. All rows are from one lane."""
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
        """The calls that are now complete or have failed."""
        with self._lock:
            self._passes -= 1
            for row in rows:
                row.call.missing -= 1
                row.call.error = row.call.error or error
            return {row.call for row in rows if row.call.error or not row.call.missing}


def settle(call: EngineCall, error: Exception | None) -> None:
    """Resolve the call's future, from any thread. A caller that has gone has cancelled it; it then stays unchanged."""

    def set_it() -> None:
        if call.future.done():
            return
        if error is None:
            call.future.set_result(call.answer)
        else:
            call.future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        call.future.get_loop().call_soon_threadsafe(set_it)
