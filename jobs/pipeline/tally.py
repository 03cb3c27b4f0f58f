"""What a run counts: the driver's tally, and the watch that reads the ledger into it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.ledger import Ledger, LedgerClient, Report, RunLedger
from serve_app.errors import PlatformError, Unavailable

POLL_PERIOD_S = 0.5


@dataclass
class Tally:
    """What the run has done so far; after an error too. Dead letters go to their file at once."""

    letters: DeadLetterFile
    show: Callable[[Report], object] = lambda total: None
    total: Report = field(default_factory=Report)

    def add(self, news: Report) -> None:
        """Raises Unavailable if the dead letters cannot be written; they are counted all the same."""
        self.total += replace(news, dead_letters=())
        try:
            self.letters.append(news.dead_letters)
        finally:
            self.show(self.total)


def start_ledger() -> LedgerClient:
    """Of what a run needs, only this must not die: it lives and dies with the driver's node."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return LedgerClient(ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote())


def require_complete(total: Report, size_bytes: int) -> None:
    """Ray repeats the work of a node that dies; should that ever give other blocks than before, it shows here."""
    if (total.documents, total.source_bytes) != (total.announced, size_bytes):
        raise Unavailable(
            f"{total.announced} documents in {size_bytes} bytes were read, but {total.documents} in "
            f"{total.source_bytes} arrived: a node may have died. Run it again, what is stored is passed over"
        )


class Watch:
    """Reads the ledger out into the tally from a thread, until the end of the context; then all that is left.

    The run goes on whatever fails here. Its end raises the first failure, as a PlatformError, unless the run failed."""

    def __init__(self, ledger: RunLedger, tally: Tally) -> None:
        self._ledger = ledger
        self._tally = tally
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ledger", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._take()
        if self._failure is None or error is not None:
            return
        if isinstance(self._failure, PlatformError):
            raise self._failure
        raise Unavailable(f"the run's counts are lost: {self._failure}") from self._failure

    def _watch(self) -> None:
        while not self._ended.wait(POLL_PERIOD_S):
            self._take()

    def _take(self) -> None:
        try:
            self._tally.add(self._ledger.take())
        except Exception as error:
            self._failure = self._failure or error
