"""One indexing run from source to store, without its command line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.dead_letters import DeadLetterFile
from jobs.inputs import Input, total_bytes
from jobs.ledger import Ledger, Report
from jobs.pipeline import run_pipeline
from jobs.prune import prune, require_prunable
from jobs.stages import Plan
from serve_app.deployments.store import connect_store
from serve_app.embedding.models import resolve_model
from serve_app.errors import Conflict, NotFound, PlatformError, Unavailable
from serve_app.settings import Settings
from serve_app.types import Scope, VectorSpace

POLL_PERIOD_S = 0.5
LEDGER_TIMEOUT_S = 30.0


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


def index_source(
    inputs: list[Input],
    scope: Scope,
    settings: Settings,
    tally: Tally,
    *,
    embedders: int = 1,
    block_tokens: int | None = None,
    prunes: bool = False,
    dry_run: bool = False,
) -> None:
    """Index all inputs; Ray must be connected. On return every document is in the store or a dead letter, and if it
    prunes, no other document is in the store. A dry run only counts what would be done.

    Raises ConfigurationError, Conflict (the collection was made with another model, or cannot be pruned after this
    run), StoreUnavailable, EngineUnavailable; Unavailable if documents or dead letters were lost on the way. What was
    written stays.
    """
    space = resolve_model(settings.embedding, settings.data_dir).space
    exists = asyncio.run(require_writable(settings, scope, space))
    # Of what the run needs, only this must not die: it lives and dies with the driver's node.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
    plan = Plan(scope, space, settings.without_secrets(), dry_run, block_tokens)
    with Watch(ledger, tally):
        run_pipeline(inputs, plan, ledger, embedders=embedders)
    require_complete(tally.total, total_bytes(inputs))
    if prunes and exists:
        require_prunable(tally.total)
        asyncio.run(prune(settings, scope, ledger, tally.add, dry_run=dry_run))


async def require_writable(settings: Settings, scope: Scope, space: VectorSpace) -> bool:
    """Before anything is read. Whether the collection has any document yet. Raises StoreUnavailable, Conflict."""
    store = connect_store(settings)
    try:
        await store.check()
        info = await store.count(scope)
    except NotFound:
        return False
    finally:
        await store.close()
    made_with = info.space
    if made_with != space:
        raise Conflict(
            f"{scope.collection} was made with {made_with.model} ({made_with.revision}, {made_with.dim} dimensions), "
            f"this run has {space.model} ({space.revision}, {space.dim}): index into a new collection"
        )
    return info.documents > 0


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

    def __init__(self, ledger: Any, tally: Tally) -> None:
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
            self._tally.add(ray.get(self._ledger.take.remote(), timeout=LEDGER_TIMEOUT_S))
        except Exception as error:
            self._failure = self._failure or error
