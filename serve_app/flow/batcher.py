"""Micro-batching at the edge (DESIGN §3.1): what waits when a worker becomes free goes to it together.

A permit is taken first and the queue drained then, so a batch is as large as the load makes it and an idle service
adds no wait. There is no task that lives for ever and could die: each arrival and each finished batch starts the next.
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
    """max_items and max_waiting are in what the batcher's `count` returns (items, if it has none), max_weight in what
    `weigh` does; an item beyond a batch's limits goes alone, one beyond max_waiting is taken when nothing waits."""

    max_items: int
    max_weight: int
    concurrency: int = 1
    max_waiting: int = 4_096


class MicroBatcher(Generic[In, Out]):
    """Callers await `submit(item)`; `run(items)` is called with many and answers one result or error per item.

    Safe against clients that leave: a cancelled caller's item is dropped before `run` sees it, or its result is. The
    same goes for an item whose deadline has passed, also in the turn of the loop before its caller is cancelled.
    Belongs to the event loop it is first used in.
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
        """The item's result. Raises Overloaded if too many wait, DeadlineExceeded, or what `run` raised or answered
        for this item."""
        count = self._count(item)
        if self._is_too_much(count):
            self._drop_abandoned()
        if self._is_too_much(count):
            raise Overloaded(f"{self._waiting_items} are waiting; try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._waiting.append(Waiting(item, future, current_deadline_s()))
        self._waiting_items += count
        if not self._pump_is_due:  # once per turn of the loop, so that what arrives in one turn goes together
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
        """The longest head of the queue within the limits, without items that nobody waits for."""
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
            with deadline(None):  # the batch is many requests' work; a task inherits that of whoever started it
                results = await self._run([entry.item for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        except BaseException as error:  # whatever it was, nobody may wait for ever
            results = [error] * len(batch)
            if not isinstance(error, Exception):
                raise
        finally:
            for entry, result in zip(batch, results, strict=True):
                settle(entry.future, result)


def settle(future: asyncio.Future[Out], result: Out | BaseException) -> None:
    """Give a waiting caller its result. A caller that has gone has cancelled its future, which must stay as it is."""
    if future.done():
        return
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
