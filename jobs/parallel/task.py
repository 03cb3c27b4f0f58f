"""What the parallel engine runs, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TaskProfile(StrEnum):
    """What bounds a task. It decides where the task runs and how many of it run at once."""

    CPU = "cpu"  # in Ray's workers, one for each CPU
    IO = "io"  # in threads of this process; their number adapts to the latency that they see
    MEMORY = "memory"  # in Ray's workers, as many as the memory allows; never two calls in one batch


@dataclass(frozen=True, slots=True)
class Task:
    """A function and how to run it. It must be idempotent: it runs again if its worker dies.

    retries: how often a call is repeated after an exception. timeout_s: for one call with its retries, counted from
    when it is handed to a thread or to Ray. At its end a worker is killed; a thread cannot be, and its result is
    ignored. cpus, memory_bytes: of one call; Ray reserves them.

    If Ray is not connected, or its cluster has fewer CPUs than one call needs, all tasks run in threads.
    """

    function: Callable[..., Any]
    profile: TaskProfile
    retries: int = 0
    timeout_s: float | None = None
    cpus: float = 1.0
    memory_bytes: int = 0

    @property
    def name(self) -> str:
        function: Any = self.function
        while hasattr(function, "func"):  # functools.partial
            function = function.func
        return str(getattr(function, "__qualname__", function))


@dataclass(frozen=True, slots=True)
class TaskResult:
    """item: of a map; the id of a graph's step. error: what the call raised, with its traceback as a note."""

    item: Any
    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


def reported(task: Task, result: TaskResult, keep_going: bool) -> TaskResult:
    """The result. Raises its error, with the item in a note, unless the run keeps going."""
    if result.error is not None and not keep_going:
        result.error.add_note(f"{task.name} failed for {result.item!r:.200}")
        raise result.error
    return result
