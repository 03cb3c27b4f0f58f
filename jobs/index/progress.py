"""How far a run is: a bar on a terminal, plain lines elsewhere. Goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
)

from jobs.pipeline.ledger import Report


def line_period_s(elapsed_s: float) -> float:
    """Between plain lines: somebody may watch the first minute; later it is a log."""
    return 1.0 if elapsed_s < 60 else 5.0


def done_ratio(report: Report, total_bytes: int) -> float:
    return min(1.0, report.source_bytes / total_bytes) if total_bytes else 0.0


def eta_s(ratio: float, elapsed_s: float) -> float | None:
    """Seconds left if it goes on as it went; None while nothing is done."""
    return elapsed_s * (1 - ratio) / ratio if ratio > 0 else None


def percent(ratio: float) -> str:
    return "<1%" if ratio < 0.01 else f"{ratio:.0%}"


def summary(report: Report, elapsed_s: float) -> str:
    """`120 documents · 480 passages · 96/s · 3 failed`; what is zero is left out."""
    parts = [f"{report.documents:,} documents", f"{report.passages:,} passages"]
    if report.passages and elapsed_s > 0:
        parts.append(f"{report.passages / elapsed_s:,.0f}/s")
    for name in ("replaced", "unchanged", "deleted", "failed"):
        if count := getattr(report, name):
            parts.append(f"{count:,} {name}")
    return " · ".join(parts)


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressDisplay:
    """Use as a context. `show` is cheap and may be called as often as one likes, from one thread."""

    def __init__(
        self, title: str, total_bytes: int, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.title = title
        self._total_bytes = total_bytes
        self._console = console
        self._now = now
        self._started_at = self._line_at = now()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task(title, total=1.0, text="starting")

    def __enter__(self) -> Self:
        self._started_at = self._line_at = self._now()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, report: Report) -> None:
        elapsed_s = self._now() - self._started_at
        ratio = done_ratio(report, self._total_bytes)
        text = f"starting, {clock(elapsed_s)}"
        if report.documents:
            text = f"{percent(ratio)} · {summary(report, elapsed_s)} · ETA {clock(eta_s(ratio, elapsed_s))}"
        self._progress.update(self._bar, completed=ratio, text=text)
        if not self._console.is_terminal and self._now() - self._line_at >= line_period_s(elapsed_s):
            self._line_at = self._now()
            self._console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True)
