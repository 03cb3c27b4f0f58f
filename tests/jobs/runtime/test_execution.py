from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any, cast

import pytest
import ray.data
from ray.data import DataContext
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from jobs.pipeline.run import quiet
from jobs.runtime.apart import run_apart
from jobs.runtime.execution import executors, run_ray_data
from tests.signals import take_signal

BLOCKS = 1_000
BLOCK_S = 0.1
INTERRUPTED = threading.Event()


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        INTERRUPTED.set()
        raise KeyboardInterrupt

    INTERRUPTED.clear()
    before = signal.signal(signal.SIGINT, interrupt)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    """From any thread to the main thread, as a terminal does it."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def slowly(block: dict[str, Any]) -> dict[str, Any]:
    time.sleep(BLOCK_S)
    return block


def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError, match="by zero"):
        run_apart(fail)


def test_ctrl_c_lets_end_what_cannot_be_stopped() -> None:
    ended = []

    def work() -> None:
        ctrl_c()
        assert INTERRUPTED.wait(10)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_apart(work)
    assert ended


def test_ctrl_c_is_seen_if_another_thread_has_taken_the_signal() -> None:
    """It used to be seen when the work had ended, which `ray job stop` did not wait for."""
    seen = []

    def work() -> None:
        take_signal(signal.SIGINT, cast(FunctionType, threading.Condition.wait))
        seen.append(INTERRUPTED.wait(10))

    with pytest.raises(KeyboardInterrupt):
        run_apart(work)
    assert seen == [True]


@pytest.mark.parametrize("is_started", [False, True])
def test_ctrl_c_ends_ray_data_that_only_begins(
    is_started: bool, ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to be raised in Thread.start: the thread ran on and could not be stopped, nor Ray be left."""

    def start(executor: StreamingExecutor) -> None:
        if is_started:
            threading.Thread.start(executor)
        ctrl_c()
        if not is_started:
            assert INTERRUPTED.wait(10)
            threading.Thread.start(executor)

    monkeypatch.setattr(StreamingExecutor, "start", start)
    quiet(DataContext.get_current())
    rows = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(slowly)
    with pytest.raises(KeyboardInterrupt):
        run_ray_data(rows.materialize)
    assert executors() == []
