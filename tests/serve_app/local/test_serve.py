"""The process that owns a run: how it is stopped. All of it is run in tests/integration/test_local_run.py."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FunctionType
from typing import cast

import pytest

from serve_app.local.serve import Stopped
from tests.signals import take_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def stopped() -> Iterator[Stopped]:
    before = [signal.getsignal(number) for number in SIGNALS]
    stopped = Stopped()
    stopped.listen()
    yield stopped
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_it_though_another_thread_has_taken_it(number: int, stopped: Stopped) -> None:
    assert not stopped.is_set()
    thread = threading.Thread(target=take_signal, args=(number, cast(FunctionType, Stopped.wait)))
    thread.start()
    stopped.wait()
    thread.join()
    assert stopped.is_set()
