"""Tasks of the parallel engine, and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TaskProfile(StrEnum):
    """The resource that bounds a task. It decides where the task runs and how many calls run at once."""

    CPU = "cpu"  # runs in Ray workers, one for each CPU
    IO = "io"  # runs in threads of this process, whose number adapts to the measured latency
    MEMORY = "memory"  # runs in Ray workers, as many as the memory allows; one call in each batch


@dataclass(frozen=True, slots=True)
class Task:
    """A function and how to run it. It must be idempotent: it runs again if its worker dies.

    retries: how often a call is repeated after an exception. timeout_s: limit for one call with its retries, from when
    it is submitted to a thread or to Ray. After a timeout, Ray's worker is killed; a thread cannot be killed, so its
    result is ignored. cpus, memory_bytes: of one call; Ray reserves them.

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
    """item: the item of a map or the id of a step. error: what the call raised, with its traceback as a note."""

    item: Any
    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


def reported(task: Task, result: TaskResult, keep_going: bool) -> TaskResult:
    """The result. Unless keep_going, raises its error with the item in a note."""
    if result.error is not None and not keep_going:
        result.error.add_note(f"{task.name} failed for {result.item!r:.200}")
        raise result.error
    return result
