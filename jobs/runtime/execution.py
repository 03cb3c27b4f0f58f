"""Runs Ray Data so that Ctrl-C ends it, and leaves nothing of it behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from ray.data._internal.execution.streaming_executor import StreamingExecutor

T = TypeVar("T")
POLL_PERIOD_S = 0.1
TIMEOUT_S = 30.0  # to end what Ray Data has begun


def run_apart(work: Callable[[], T]) -> T:
    """work(), which uses Ray Data, in a thread of its own. Blocks until it has ended; returns and raises what it does.

    Ctrl-C is raised wherever the main thread is, which is here, where it only waits. Were it raised in the midst of
    Ray Data, a thread or a task could be left running, and with those Ray cannot be shut down: it connects again, or
    ends the process at once, without its last line.

    It waits a moment at a time. A signal goes to the main thread, but a thread that happens to start another one can
    take it first (Linux, at clone), as those of gRPC do; that does not wake the main thread, which has to look.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised below
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name="ray-data", daemon=True).start()
        while not outcome.done():
            wait([outcome], POLL_PERIOD_S)
        return outcome.result()
    except KeyboardInterrupt:
        stop(outcome)
        raise
    finally:  # after an error, too, the executor's thread runs on for a while
        for executor in executors():
            executor.join(TIMEOUT_S)


def stop(outcome: Future[T]) -> None:
    """What Ray Data does before it has an executor is let run to its end: seconds."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not outcome.done() and time.monotonic() < deadline_s:
        for executor in executors():
            executor.shutdown(force=False, exception=InterruptedError())  # nothing before it has begun
        wait([outcome], POLL_PERIOD_S)


def executors() -> list[StreamingExecutor]:
    """Ray Data's running scheduling threads, one a dataset."""
    return [each for each in threading.enumerate() if isinstance(each, StreamingExecutor) and each.is_alive()]
