"""The instant after which nobody waits for a request's answer, carried from the API to the micro-batchers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends_at_s: ContextVar[float | None] = ContextVar("deadline_ends_at_s", default=None)


@contextmanager
def deadline(ends_at_s: float | None) -> Iterator[None]:
    """Everything awaited inside, tasks made there included, has this deadline, or none. In the event loop's time."""
    token = _ends_at_s.set(ends_at_s)
    try:
        yield
    finally:
        _ends_at_s.reset(token)


def current_deadline_s() -> float | None:
    """None: there is none, as in a job."""
    return _ends_at_s.get()


def is_over(ends_at_s: float | None) -> bool:
    return ends_at_s is not None and asyncio.get_running_loop().time() >= ends_at_s
