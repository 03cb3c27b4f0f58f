"""Work in a thread of its own, so that Ctrl-C ends it at a point of its choice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
POLL_PERIOD_S = 0.1
TIMEOUT_S = 30.0  # for the work to end after it was asked to


def run_apart(work: Callable[[], T], stop: Callable[[], object] = lambda: None) -> T:
    """work() in a thread. Blocks until it has ended; returns and raises what it does.

    Ctrl-C raises KeyboardInterrupt in the main thread, which is here and only waits. It calls `stop`, again and again
    until the work has ended: the first call may come before there is anything to stop.

    It waits a moment at a time. A signal goes to the main thread, but a thread that happens to start another one can
    take it first (Linux, at clone), as those of gRPC do; that does not wake the main thread, which has to check.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised below
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name="work", daemon=True).start()
        while not outcome.done():
            wait([outcome], POLL_PERIOD_S)
        return outcome.result()
    except KeyboardInterrupt:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not outcome.done() and time.monotonic() < deadline_s:
            stop()
            wait([outcome], POLL_PERIOD_S)
        raise
