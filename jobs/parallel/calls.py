"""Calls one after another, or on a few threads, each with its measurements. Runs here and in Ray's workers."""

from __future__ import annotations

import pickle
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

from jobs.parallel.clocks import CallClock

MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss

CLOCK = CallClock()

Call = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Ran:
    """wall_s: of this call alone, without the time in which there was no CPU for it; cpu_s: of its thread."""

    value: Any
    error: Exception | None
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """peak_bytes: what one call had at most besides what the process had before; 0 where that is not known, because
    the process has had more at an earlier time."""

    ran: tuple[Ran, ...]
    peak_bytes: int = 0


def run_calls(
    calls: Sequence[Call], threads: int = 1, portable: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Measured:
    """In the order of the calls. portable: errors are made such that another process can have them. stopped: asked
    before each call; the rest is left out then."""
    before_bytes, before_peak_bytes = rss_bytes(), peak_rss_bytes()
    if threads > 1 and len(calls) > 1:
        with ThreadPoolExecutor(min(threads, len(calls))) as pool:
            ran = tuple(pool.map(lambda call: run_call(call, portable), calls))
    else:
        ran = tuple(run_call(call, portable) for call in calls if not stopped())
    risen = (peak := peak_rss_bytes()) > before_peak_bytes
    return Measured(ran, max(0, peak - before_bytes) // min(threads, len(calls)) if risen else 0)


def run_sent(sent: tuple[Sequence[Call], int]) -> Measured:
    """In a worker of Ray, with so many threads. One argument, for Ray packs each by itself."""
    calls, threads = sent
    return run_calls(calls, threads, portable=True)


def run_call(call: Call, portable: bool) -> Ran:
    function, args = call
    started = CLOCK.start()
    value, error = None, None
    try:
        value = function(*args)
    except SystemExit as exit:
        error = noted(RuntimeError(f"the task ended its process: {exit!r}"), portable)
    except Exception as raised:
        error = noted(raised, portable)
    return Ran(value, error, *CLOCK.stop(started))


def noted(error: Exception, portable: bool) -> Exception:
    """With its traceback as a note, which pickle keeps, unlike the traceback itself; and if it has to be portable and
    is not, an error that says the same."""
    told = "".join(traceback.format_exception(error))
    if portable:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(told)
    return error


def rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def peak_rss_bytes() -> int:
    """Since the process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES
