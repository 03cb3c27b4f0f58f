"""The process that owns a run: how it is stopped. All of it is run in tests/integration/test_local_run.py."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from serve_app.deployments.local_serve import listen, wait_until
from tests.signals import take_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def stopped() -> Iterator[threading.Event]:
    before = [signal.getsignal(number) for number in SIGNALS]
    event = threading.Event()
    listen(event)
    yield event
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_it_though_another_thread_has_taken_it(number: int, stopped: threading.Event) -> None:
    seen = []

    def take() -> None:
        take_signal(number)
        seen.append(stopped.wait(10))
        stopped.set()  # a failure does not wait for ever

    thread = threading.Thread(target=take)
    thread.start()
    wait_until(stopped)
    thread.join()
    assert seen == [True]
