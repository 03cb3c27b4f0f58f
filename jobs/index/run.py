"""One indexing run from source to store, without its command line."""

from __future__ import annotations

import asyncio
from functools import partial

import ray

from jobs.index.prune import prune, require_its_own, require_prunable
from jobs.pipeline.actor_pools import gpus_of_one
from jobs.pipeline.cutting import IndexingPlan, settings_of
from jobs.pipeline.in_driver import run_in_driver
from jobs.pipeline.inputs import Input, total_bytes
from jobs.pipeline.ledger import Ledger, RunLedger
from jobs.pipeline.tally import Tally, Watch, require_complete, start_ledger
from jobs.runtime.patience import patiently
from serve_app.deployments.store import connect_store
from serve_app.embedding.models import resolve_model
from serve_app.errors import NotFound
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.types import IndexInfo, Scope

SMALL_SOURCE_BYTES = 4 * 1024 * 1024


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
    made, documents = asyncio.run(active_index(settings, scope))
    settings = settings if made is None else settings_of(made.recipe, settings)
    space = resolve_model(settings.embedding, settings.data_dir).space
    if prunes and documents:
        asyncio.run(require_its_own(settings, scope, inputs))
    made_for = made.scope.index if made else None
    plan = IndexingPlan(scope, space, settings.without_secrets(), dry_run, block_tokens, made_for=made_for)
    ledger = run_stages(inputs, plan, tally, embedders)
    require_complete(tally.total, total_bytes(inputs))
    if prunes and documents:
        require_prunable(tally.total)
        asyncio.run(prune(settings, scope, ledger, tally.add, dry_run=dry_run))


def run_stages(inputs: list[Input], plan: IndexingPlan, tally: Tally, embedders: int | None) -> RunLedger:
    """The ledger of the run, which has been through all inputs."""
    if embedders is None and plan.block_tokens is None and is_small(inputs, plan.settings.embedding):
        local = Ledger()
        with Watch(local, tally):
            run_in_driver(inputs, plan, local)
        return local
    from jobs.pipeline.run import run_pipeline  # Ray Data takes a second to import

    ledger = start_ledger()
    with Watch(ledger, tally):
        run_pipeline(inputs, plan, ledger, embedders=embedders)
    return ledger


def is_small(inputs: list[Input], embedding: EmbeddingSettings) -> bool:
    """Whether the driver is done before Ray Data has started its actors, or soon after. A GPU only they can have."""
    gpus = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    return total_bytes(inputs) <= SMALL_SOURCE_BYTES and not gpus_of_one(embedding, gpus)


async def active_index(settings: Settings, scope: Scope) -> tuple[IndexInfo | None, int]:
    """The active index, and how many documents it has; None for a collection that does not exist. Before anything
    is read. Raises StoreUnavailable."""
    store = connect_store(settings)
    try:
        await patiently(store.check)
        active = await patiently(partial(store.active_index, scope))
        return active, (await patiently(partial(store.count, scope))).documents
    except NotFound:
        return None, 0
    finally:
        await store.close()
