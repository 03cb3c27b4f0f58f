"""Progress of a job in steps: a bar for each on a terminal, plain lines elsewhere. Goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_PERIOD_S = 5.0


class Steps:
    """A bar for each step on a terminal, a line every few seconds and at each step's end elsewhere. Use as a
    context."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._console = console
        self._now = now
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._line_at = now()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(escape(step))
        self._progress.update(self._tasks[step], completed=done, total=total)
        if not self._console.is_terminal and (done == total or self._now() - self._line_at >= LINE_PERIOD_S):
            self._line_at = self._now()
            self._console.print(Text(f"{step}: {done:,} of {total:,}"), soft_wrap=True)
