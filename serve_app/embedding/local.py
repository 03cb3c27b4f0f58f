"""The engine in this process, seen from async code: continuous batching.

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

from serve_app.embedding.engine import EmbeddingEngine, require_unit_length
from serve_app.errors import EngineUnavailable, Overloaded
from serve_app.telemetry.catalogue import PASS_TOKENS, STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, Vector, VectorSpace

LOOK_TEXTS = 256  # at the head of a lane, from which a pass is composed: more of them pad less
BULK_PASS_IN = 8  # one pass in so many is for bulk while both lanes wait: it slows down and does not starve
CHARS_ON_THE_LOOP = 4_000  # are tokenised at once (about 1 ms); more of them in a thread


@dataclass(eq=False, slots=True)
class Call:
    """One `embed`: its rows are filled pass by pass. missing: rows that no pass has ended for yet. error: of the first
    pass that failed."""

    future: asyncio.Future[Embeddings]
    answer: Embeddings
    missing: int
    lane: Lane
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class Row:
    """A text that waits."""

    call: Call
    number: int
    encoding: Encoding
    since_s: float  # by time.perf_counter


@dataclass(eq=False, slots=True)
class Lanes:
    """What waits, by lane. Not thread-safe."""

    rows: dict[Lane, deque[Row]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
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

    def take(self, engine: EmbeddingEngine, workers: int) -> list[Row]:
        """The rows of the next pass, the oldest row of its lane among them, where so many workers are free; none if
        none wait."""
        while (lane := self.next_lane()) is not None:
            waiting = self.rows[lane]
            head = [waiting.popleft() for _ in range(min(LOOK_TEXTS, len(waiting)))]
            head = [row for row in head if not row.call.future.done()]
            for batch in engine.compose([len(row.encoding.ids) for row in head], workers):
                if 0 in batch:
                    chosen = set(batch)
                    waiting.extendleft(reversed([row for place, row in enumerate(head) if place not in chosen]))
                    return [head[place] for place in batch]
        return []

    def clear(self) -> list[Call]:
        calls = {row.call for waiting in self.rows.values() for row in waiting}
        for waiting in self.rows.values():
            waiting.clear()
        return list(calls)


class LocalEmbedder:
    """Implements `ports.Embedder`. The engine computes in threads of its own, so the event loop stays free."""

    def __init__(self, engine: EmbeddingEngine, max_waiting_texts: int = 4_096, meter: Meter | None = None) -> None:
        """max_waiting_texts: in each lane, so that a full one for bulk refuses no search."""
        self._engine = engine
        self._meter = meter or Meter()
        self._max_waiting_texts = max_waiting_texts
        self._threads = ThreadPoolExecutor(engine.passes_at_once, thread_name_prefix="embed")
        self._lock = threading.Lock()  # guards the rest
        self._lanes = Lanes()
        self._computing = 0  # threads that look for passes
        self._passes = 0  # under way
        self._closed = False

    @property
    def space(self) -> VectorSpace:
        return self._engine.space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """A call with more texts than may wait is taken when nothing else waits in its lane. Raises Overloaded,
        EngineUnavailable."""
        return await self._embed(texts, lane, urgent=False)

    async def check(self) -> None:
        """One short text, before all that waits. Raises EngineUnavailable if the engine does not answer rightly."""
        require_unit_length(await self._embed(["health"], Lane.INTERACTIVE, urgent=True), self.space.model)

    def close(self) -> None:
        """Waits for the passes that are running; calls that wait get EngineUnavailable. Idempotent."""
        with self._lock:
            self._closed = True
            abandoned = self._lanes.clear()
        for call in abandoned:
            settle(call, EngineUnavailable("the embedder is closed"))
        self._threads.shutdown(wait=True)

    async def _embed(self, texts: Sequence[str], lane: Lane, *, urgent: bool) -> Embeddings:
        with self._meter.time(STAGE_SECONDS, stage="tokenize", lane=lane):
            encodings = await self._encode(texts)
        tokens = np.asarray([len(encoding.ids) for encoding in encodings], dtype=np.int32)
        answer = Embeddings(np.empty((len(texts), self.space.dim), dtype=np.float32), tokens)
        if not encodings:
            return answer
        call = Call(asyncio.get_running_loop().create_future(), answer, len(encodings), lane)
        now_s = time.perf_counter()
        self._put([Row(call, number, each, now_s) for number, each in enumerate(encodings)], lane, urgent)
        return await call.future

    async def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        if sum(map(len, texts)) <= CHARS_ON_THE_LOOP:
            return self._engine.tokenizer.encode(texts)
        return await asyncio.to_thread(self._engine.tokenizer.encode, texts)

    def _put(self, rows: Sequence[Row], lane: Lane, urgent: bool) -> None:
        with self._lock:
            if self._closed:
                raise EngineUnavailable("the embedder is closed")
            waiting = self._lanes.rows[lane]
            if waiting and not urgent and len(waiting) + len(rows) > self._max_waiting_texts:
                raise Overloaded(f"{len(waiting)} texts are waiting to be embedded; try again later")
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
                    row.call.answer.vectors[row.number] = vector
            except Exception as caught:  # whatever it was, nobody may wait for ever
                error = caught
            for call in self._end_pass(rows, error):
                settle(call, call.error)

    def _infer(self, rows: Sequence[Row]) -> Vector:
        """One pass, whose rows are of one lane."""
        lane, now_s = rows[0].call.lane, time.perf_counter()
        for row in rows:
            self._meter.observe(STAGE_SECONDS, now_s - row.since_s, stage="queue", lane=lane)
        encodings = [row.encoding for row in rows]
        self._meter.observe(PASS_TOKENS, sum(len(encoding.ids) for encoding in encodings), counted="real")
        self._meter.observe(PASS_TOKENS, self._engine.width(encodings) * len(rows), counted="padded")
        with self._meter.time(STAGE_SECONDS, stage="infer", lane=lane):
            return self._engine.infer(encodings)

    def _next_pass(self) -> list[Row]:
        with self._lock:
            rows = self._lanes.take(self._engine, self._engine.passes_at_once - self._passes)
            if rows:
                self._passes += 1
            else:
                self._computing -= 1
            return rows

    def _end_pass(self, rows: Sequence[Row], error: Exception | None) -> set[Call]:
        """The calls that nothing is missing of any more, or that have failed."""
        with self._lock:
            self._passes -= 1
            for row in rows:
                row.call.missing -= 1
                row.call.error = row.call.error or error
            return {row.call for row in rows if row.call.error or not row.call.missing}


def settle(call: Call, error: Exception | None) -> None:
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
