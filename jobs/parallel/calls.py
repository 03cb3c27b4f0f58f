"""Runs calls of one task one after another, in a thread or a Ray worker."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.parallel.task import Task

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0  # before a retry; each pause is twice as long as the previous one

CallResult = tuple[Any, Exception | None]


@dataclass(frozen=True, slots=True)
class FinishedCalls:
    results: tuple[CallResult, ...]
    seconds: float


def run_calls(
    task: Task, calls: Sequence[tuple[Any, ...]], is_cancelled: Callable[[], bool] = lambda: False
) -> FinishedCalls:
    """calls: arguments of each call. A cancellation skips the remaining calls."""
    began_s = time.perf_counter()
    results = tuple(run_call(task, args) for args in calls if not is_cancelled())
    return FinishedCalls(results, time.perf_counter() - began_s)


def run_call(task: Task, args: tuple[Any, ...]) -> CallResult:
    """One call with its retries."""
    for number in range(task.retries + 1):
        if number:
            time.sleep(pause_s(number))
        try:
            return task.function(*args), None
        except SystemExit as exit:
            return None, RuntimeError(f"{task.name} tried to end its process: {exit!r}")
        except Exception as error:
            failure = portable(error)
    return None, failure


def pause_s(retry: int) -> float:
    """Pause before a retry. retry: counted from 1."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(retry - 1, 30))


def portable(error: Exception) -> Exception:
    """The error with its traceback as a note, because pickle drops tracebacks. If the error itself cannot be pickled, a
    RuntimeError with its text."""
    traced = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # the error's class can raise anything
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(traced)
    return error
