"""Runs Ray Data so that Ctrl-C ends it, and leaves nothing of it behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ray.data._internal.execution.streaming_executor import StreamingExecutor

from jobs.runtime.apart import TIMEOUT_S, run_apart

T = TypeVar("T")


def run_ray_data(work: Callable[[], T]) -> T:
    """work(), which uses Ray Data, as `run_apart` does it.

    Were Ctrl-C raised in the midst of Ray Data, a thread or a task could be left running, and with those Ray cannot be
    shut down: it connects again, or ends the process at once, without its last line. What Ray Data does before it has
    an executor runs to its end, which takes seconds.
    """
    try:
        return run_apart(work, shut_down_executors)
    finally:  # after an error, too, the executor's thread runs on for a while
        for executor in executors():
            executor.join(TIMEOUT_S)


def shut_down_executors() -> None:
    for executor in executors():
        executor.shutdown(force=False, exception=InterruptedError())  # nothing before it has begun


def executors() -> list[StreamingExecutor]:
    """Ray Data's running scheduling threads, one a dataset."""
    return [each for each in threading.enumerate() if isinstance(each, StreamingExecutor) and each.is_alive()]
