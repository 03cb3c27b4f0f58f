"""Concurrent callers with the same key wait for one task (like Go's singleflight, with cancellation)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from typing import Any, Generic, TypeVar

from serve_app.errors import Unavailable

Key = TypeVar("Key", bound=Hashable)
Out = TypeVar("Out")


class Flight(Generic[Out]):
    def __init__(self, task: asyncio.Task[Out]) -> None:
        self.task = task
        self.callers = 0


class SingleFlight(Generic[Key, Out]):
    """One task per key. Every waiting caller gets the task's result or error. A caller that leaves does not affect the
    others; when the last caller leaves, the task is cancelled. The task sees no caller's context variables, so it has
    no caller's deadline. Belongs to one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Key, Flight[Out]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Out]]) -> Out:
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(asyncio.get_running_loop().create_task(work(), context=Context()))
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        flight.callers += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError as error:
            caller = asyncio.current_task()
            if flight.task.cancelled() and not (caller and caller.cancelling()):  # the task cancelled itself
                raise Unavailable("the work was cancelled; try again") from error
            raise
        finally:
            flight.callers -= 1
            if flight.callers == 0 and not flight.task.done():
                self._landed(key, flight)  # so that a new caller starts a new task
                flight.task.cancel()

    def _landed(self, key: Key, flight: Flight[Out]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # mark it as retrieved, even if every caller has left
