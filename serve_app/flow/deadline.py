"""A request's deadline: the time after which nobody waits for its response. A context variable carries it from the API
to the micro-batchers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends_at_s: ContextVar[float | None] = ContextVar("deadline_ends_at_s", default=None)


@contextmanager
def deadline(ends_at_s: float | None) -> Iterator[None]:
    """Sets the deadline for the code inside, including tasks that it creates. ends_at_s: in the event loop's time; None
    for no deadline."""
    token = _ends_at_s.set(ends_at_s)
    try:
        yield
    finally:
        _ends_at_s.reset(token)


def current_deadline_s() -> float | None:
    """In the event loop's time. None without a deadline, as in a job."""
    return _ends_at_s.get()


def is_over(ends_at_s: float | None) -> bool:
    return ends_at_s is not None and asyncio.get_running_loop().time() >= ends_at_s
