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

from serve_app.errors import Overloaded, PlatformError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """max_weight is in whatever unit the batcher's `weigh` returns; an item heavier than it goes alone."""

    max_items: int
    max_weight: int
    concurrency: int = 1
    max_waiting: int = 4_096


class MicroBatcher(Generic[In, Out]):
    """Callers await `submit(item)`; `run(items)` is called with many and answers one result or error per item.

    Safe against clients that leave: a cancelled caller's item is dropped before `run` sees it, or its result is.
    Belongs to the event loop it is first used in.
    """

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Sequence[Out | PlatformError]]],
        limits: BatchLimits,
        weigh: Callable[[In], int] = lambda _: 1,
    ) -> None:
        self._run = run
        self._limits = limits
        self._weigh = weigh
        self._waiting: deque[tuple[In, asyncio.Future[Out]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._pump_is_due = False

    async def submit(self, item: In) -> Out:
        """The item's result. Raises Overloaded if too many wait, or what `run` raised or answered for this item."""
        if len(self._waiting) >= self._limits.max_waiting:
            self._drop_abandoned()
        if len(self._waiting) >= self._limits.max_waiting:
            raise Overloaded(f"{len(self._waiting)} requests are waiting; try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._waiting.append((item, future))
        if not self._pump_is_due:  # once per turn of the loop, so that what arrives in one turn goes together
            self._pump_is_due = True
            loop.call_soon(self._pump)
        return await future

    def _drop_abandoned(self) -> None:
        self._waiting = deque((item, future) for item, future in self._waiting if not future.done())

    def _pump(self) -> None:
        self._pump_is_due = False
        while len(self._running) < self._limits.concurrency and (batch := self._take()):
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()

    def _take(self) -> list[tuple[In, asyncio.Future[Out]]]:
        """The longest head of the queue within the limits, without items whose caller has gone."""
        batch: list[tuple[In, asyncio.Future[Out]]] = []
        weight = 0
        while self._waiting and len(batch) < self._limits.max_items:
            item, future = self._waiting[0]
            if not future.done():
                weight += self._weigh(item)
                if batch and weight > self._limits.max_weight:
                    break
                batch.append((item, future))
            self._waiting.popleft()
        return batch

    async def _answer(self, batch: list[tuple[In, asyncio.Future[Out]]]) -> None:
        results: Sequence[Out | PlatformError | BaseException]
        try:
            results = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        except BaseException as error:  # whatever it was, nobody may wait for ever
            results = [error] * len(batch)
            if not isinstance(error, Exception):
                raise
        finally:
            for (_, future), result in zip(batch, results, strict=True):
                settle(future, result)


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
