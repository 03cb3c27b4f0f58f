"""Signals that the main thread does not get itself."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from types import FunctionType

from tests.integration.running import poll


def take_signal(number: int, wait: FunctionType) -> None:
    """In a thread: take a signal of the process while the main thread waits in this function, as Linux lets any
    thread."""
    poll(lambda: main_is_in(wait), timeout_s=10)
    signal.pthread_kill(threading.get_ident(), number)


def main_is_in(function: FunctionType) -> bool:
    main = threading.main_thread().ident
    assert main is not None
    calls = [frame.f_code for frame, _ in traceback.walk_stack(sys._current_frames()[main])]
    return calls[0] is function.__code__ and threading.Thread.start.__code__ not in calls
