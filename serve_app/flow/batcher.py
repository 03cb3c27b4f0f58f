"""Micro-batching at the edge (DESIGN §3.1): when a worker becomes free, it gets all waiting items as one batch.

The batcher drains the queue only when a worker is free. So batches grow with the load, and an idle service adds no
delay. No background task runs for ever and could die: each arrival and each finished batch starts the next batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from serve_app.errors import DeadlineExceeded, Overloaded, PlatformError
from serve_app.flow.deadline import current_deadline_s, deadline, is_over

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[In, Out]):
    item: In
    future: asyncio.Future[Out]
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """max_items and max_waiting are in units of the batcher's `count` (by default 1 an item), max_weight in units of
    `weigh`. An item above a batch's limits runs alone. An item above max_waiting is accepted if the queue is empty."""

    max_items: int
    max_weight: int
    concurrency: int = 1
    max_waiting: int = 4_096


class MicroBatcher(Generic[In, Out]):
    """Callers await `submit(item)`. `run(items)` gets many items and returns one result or error per item, in order.

    If a caller is cancelled, its item is dropped before `run` gets it, or its result is discarded. An item whose
    deadline has passed is dropped too, even if its caller is not cancelled yet.
    Belongs to the event loop in which it is first used.
    """

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Sequence[Out | PlatformError]]],
        limits: BatchLimits,
        weigh: Callable[[In], int] = lambda _: 1,
        count: Callable[[In], int] = lambda _: 1,
    ) -> None:
        self._run = run
        self._limits = limits
        self._count = count
        self._weigh = weigh
        self._waiting: deque[Waiting[In, Out]] = deque()
        self._waiting_items = 0  # by `count`
        self._running: set[asyncio.Task[None]] = set()
        self._pump_is_due = False

    async def submit(self, item: In) -> Out:
        """The item's result. Raises Overloaded if too many items wait, DeadlineExceeded if the item did not start in
        time, or the error that `run` raised or returned for this item."""
        count = self._count(item)
        if self._is_too_much(count):
            self._drop_abandoned()
        if self._is_too_much(count):
            raise Overloaded(f"{self._waiting_items} are waiting; try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._waiting.append(Waiting(item, future, current_deadline_s()))
        self._waiting_items += count
        if not self._pump_is_due:  # once per turn of the loop, so that all arrivals of a turn share a batch
            self._pump_is_due = True
            loop.call_soon(self._pump)
        return await future

    def _is_too_much(self, count: int) -> bool:
        return bool(self._waiting) and self._waiting_items + count > self._limits.max_waiting

    def _drop_abandoned(self) -> None:
        self._waiting = deque(entry for entry in self._waiting if not entry.future.done())
        self._waiting_items = sum(self._count(entry.item) for entry in self._waiting)

    def _pump(self) -> None:
        self._pump_is_due = False
        while len(self._running) < self._limits.concurrency and (batch := self._take()):
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()

    def _take(self) -> list[Waiting[In, Out]]:
        """As many items from the head of the queue as the limits allow. Skips items that nobody waits for."""
        batch: list[Waiting[In, Out]] = []
        items = weight = 0
        while self._waiting and items < self._limits.max_items:
            entry = self._waiting[0]
            if is_over(entry.deadline_s):
                settle(entry.future, DeadlineExceeded("not begun in time"))
            if not entry.future.done():
                items += self._count(entry.item)
                weight += self._weigh(entry.item)
                if batch and (items > self._limits.max_items or weight > self._limits.max_weight):
                    break
                batch.append(entry)
            self._waiting.popleft()
            self._waiting_items -= self._count(entry.item)
        return batch

    async def _answer(self, batch: list[Waiting[In, Out]]) -> None:
        results: Sequence[Out | PlatformError | BaseException]
        try:
            with deadline(None):  # a task inherits the deadline of one request, but the batch serves many
                results = await self._run([entry.item for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        except BaseException as error:  # whatever it was, no caller may wait for ever
            results = [error] * len(batch)
            if not isinstance(error, Exception):
                raise
        finally:
            for entry, result in zip(batch, results, strict=True):
                settle(entry.future, result)


def settle(future: asyncio.Future[Out], result: Out | BaseException) -> None:
    """Give a waiting caller its result. Does nothing if the caller has left and so cancelled its future."""
    if future.done():
        return
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
