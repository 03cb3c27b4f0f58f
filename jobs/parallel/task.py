"""What is to be done, and what became of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from serve_app.errors import DeadlineExceeded, Unavailable


class Place(StrEnum):
    THREADS = "threads"  # of this process
    WORKERS = "workers"  # processes of the Ray cluster


@dataclass(frozen=True, slots=True)
class Task:
    """One call of `function(*args, *values of needs)`. It may be done again after a worker's death, so it must be
    idempotent.

    needs: ids of tasks whose values follow `args`, in this order. after: ids of tasks that only have to be done before.
    retries: how often it is tried again after an exception. timeout_s: from when it is handed to a thread or to Ray; a
    worker is ended then, a thread is left to itself. place: None for where it is measured to be best. cost_s: what it
    is expected to take, for the order of a graph; None for what its like were measured to take.
    """

    id: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int = 0
    timeout_s: float | None = None
    place: Place | None = None
    cost_s: float | None = None

    @property
    def follows(self) -> tuple[str, ...]:
        return (*self.needs, *self.after)

    @property
    def kind(self) -> tuple[object, ...]:
        """Tasks of one kind are taken to cost about the same, and are planned together."""
        function: object = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return getattr(function, "__func__", function), self.place, self.timeout_s is not None


class Status(StrEnum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # an ancestor failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """value: where it is done. error: where it failed, with the traceback as its note. because: where it is skipped,
    the id of the task that failed. resumed: its value comes from the checkpoint."""

    id: str
    status: Status = Status.DONE
    value: Any = None
    error: Exception | None = None
    because: str = ""
    attempts: int = 1
    resumed: bool = False

    def result(self) -> Any:
        """The value. Raises the task's own error, or Unavailable if it was skipped."""
        if self.error is not None:
            raise self.error
        if self.status is Status.SKIPPED:
            raise Unavailable(f"{self.id} was not begun, because {self.because} failed")
        return self.value


def timed_out(task: Task) -> DeadlineExceeded:
    return DeadlineExceeded(f"{task.id} was not done in {task.timeout_s:g} s")
