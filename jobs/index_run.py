"""One indexing run from source to store, without its command line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.cutting import Plan
from jobs.dead_letters import DeadLetterFile
from jobs.inputs import Input, total_bytes
from jobs.ledger import LEDGER_TIMEOUT_S, Ledger, Report
from jobs.patience import patiently
from jobs.pipeline import run_pipeline
from jobs.prune import prune, require_its_own, require_prunable
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import chunking_of
from serve_app.embedding.models import resolve_model, settings_of_space
from serve_app.errors import NotFound, PlatformError, Unavailable
from serve_app.settings import Settings
from serve_app.types import IndexInfo, Recipe, Scope

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


def index_source(
    inputs: list[Input],
    scope: Scope,
    settings: Settings,
    tally: Tally,
    *,
    embedders: int | None = None,
    block_tokens: int | None = None,
    prunes: bool = False,
    dry_run: bool = False,
) -> None:
    """Index all inputs; Ray must be connected. On return every document is in the store or a dead letter, and if it
    prunes, no other document is in the store. A dry run only counts what would be done.

    A collection that is there gets them as its index was made. Raises ConfigurationError, Conflict (that is of a model
    which the settings do not name, another index took its place, or it cannot be pruned after this run),
    StoreUnavailable, EngineUnavailable; Unavailable if documents or dead letters were lost on the way. What was
    written stays.
    """
    made, documents = asyncio.run(answering(settings, scope))
    settings = settings if made is None else settings_of(made.recipe, settings)
    space = resolve_model(settings.embedding, settings.data_dir).space
    if prunes and documents:
        asyncio.run(require_its_own(settings, scope, inputs))
    ledger = start_ledger()
    made_for = made.scope.index if made else None
    plan = Plan(scope, space, settings.without_secrets(), dry_run, block_tokens, made_for=made_for)
    with Watch(ledger, tally):
        run_pipeline(inputs, plan, ledger, embedders=embedders)
    require_complete(tally.total, total_bytes(inputs))
    if prunes and documents:
        require_prunable(tally.total)
        asyncio.run(prune(settings, scope, ledger, tally.add, dry_run=dry_run))


def start_ledger() -> Any:
    """A handle. Of what a run needs, only this must not die: it lives and dies with the driver's node."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()


async def answering(settings: Settings, scope: Scope) -> tuple[IndexInfo | None, int]:
    """The index that answers, and how many documents it has; None for a collection that is not there. Before anything
    is read. Raises StoreUnavailable."""
    store = connect_store(settings)
    try:
        await patiently(store.check)
        answering = await patiently(partial(store.answering, scope))
        return answering, (await patiently(partial(store.count, scope))).documents
    except NotFound:
        return None, 0
    finally:
        await store.close()


def settings_of(recipe: Recipe, settings: Settings) -> Settings:
    """With the model, precision and chunking that the index was made with. Raises Conflict if its model is none of the
    settings', and as `resolve_model`."""
    embedding = settings_of_space(settings.embedding, settings.data_dir, recipe.space)
    if recipe.precision:
        embedding = embedding.model_copy(update={"precision": recipe.precision})
    chunking = chunking_of(recipe, settings.chunking)
    return settings.model_copy(update={"embedding": embedding, "chunking": chunking})


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
