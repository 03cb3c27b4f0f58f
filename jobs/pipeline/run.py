"""The indexing pipeline on Ray Data.

```text
inputs ─▶ ReadStage ────────▶ EmbedStage ───▶ StoreStage ──▶ Ledger (counts, dead letters)
or        a row a document,   dense vectors   whole documents,
CopyStage unchanged ones                      idempotent
          without text
```
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.exceptions import RayTaskError

from jobs.pipeline.actor_pools import ActorPools, actor_pools, cluster_now
from jobs.pipeline.announcing import announce_all
from jobs.pipeline.copying import CopyStage
from jobs.pipeline.cutting import IndexingPlan
from jobs.pipeline.inputs import Input
from jobs.pipeline.ledger import LedgerClient
from jobs.pipeline.stages import EmbedStage, ReadStage, StoreStage
from jobs.runtime.execution import run_ray_data
from jobs.runtime.slices import slices
from serve_app.errors import PlatformError, Unavailable
from serve_app.settings import Settings

READ_INPUTS, READ_BYTES = 512, 1024 * 1024  # in one call of ReadStage; a million files are not as many calls
MOST_READS = 2_048  # by their bytes; beyond it a call reads more
COPIED_BYTES = READ_BYTES // 16  # that an input of CopyStage counts as
EMBED_CALLS = 2  # of an embedder at once: one is embedded while the other is unpacked, tokenised and packed
QUEUED_BLOCKS = 32  # for each that reads or embeds, between all stages; beyond it reading waits
BYTES_PER_TOKEN = 14  # of a block that is to be embedded; measured: 13 to 15
# What kills its process again and again ends the run; Ray Data's own default is to try for ever. A task may be tried as
# often as its actor lives: while Ray finds out that a node is dead, it fails every second.
RETRIES: dict[str, Any] = {"max_restarts": 3, "max_task_retries": -1}


def run_pipeline(inputs: Sequence[Input], plan: IndexingPlan, ledger: LedgerClient, *, embedders: int | None) -> None:
    """Blocks until all inputs are through. embedders: see actor_pools.

    Raises the PlatformError that ended it, ConfigurationError if no CPU is free, Unavailable for whatever Ray or Ray
    Data raised. What was written until then stays, and a new run passes over it.
    """
    pools = actor_pools(cluster_now(), plan.settings.embedding, embedders)
    if plan.source:  # each that reads asks the store, which searches wait for
        pools = replace(pools, readers=pools.embedders)
    block_tokens = plan.block_tokens or pools.block_tokens
    plan = replace(plan, block_tokens=block_tokens)
    queued_blocks = QUEUED_BLOCKS * (pools.readers + pools.embedders)
    bound(DataContext.get_current(), queued_blocks * BYTES_PER_TOKEN * block_tokens)
    quiet(DataContext.get_current())
    parts = [*reads(inputs)]
    try:
        if not plan.source:
            announce_all(parts, ledger, at_once=pools.readers, cpus=pools.read_cpus)
        reports = run_ray_data(lambda: pipeline(parts, plan, ledger, pools))
        run_ray_data(partial(exhaust, reports))
    except Exception as error:
        ours = platform_error(error)
        raise ours or Unavailable(f"Ray ended the run: {type(error).__name__}: {error}") from error


def exhaust(rows: Dataset) -> None:
    """Not materialize(), which keeps 20 KB for each block until the end."""
    for _ in rows.iter_internal_ref_bundles():
        pass


def pipeline(parts: Sequence[Sequence[Input]], plan: IndexingPlan, ledger: LedgerClient, pools: ActorPools) -> Dataset:
    """parts: as `reads` gives them. Lazy, but for a task that looks at the inputs."""
    rows = ray.data.from_arrow([to_block(part) for part in parts]).map_batches(
        CopyStage if plan.source else ReadStage,
        fn_constructor_args=(plan, ledger),
        batch_size=None,  # a block
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=pools.readers),
        num_cpus=pools.read_cpus,
        **RETRIES,
    )
    if not plan.dry_run:
        rows = rows.map_batches(
            EmbedStage,
            fn_constructor_args=(with_threads(plan.settings, pools.threads),),
            batch_size=1,  # a block, which is a row; for a stage with a GPU Ray Data wants a number
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=pools.embedders,
                max_concurrent_calls_per_actor=EMBED_CALLS,
                enable_true_multi_threading=True,
            ),
            num_cpus=pools.embed_cpus,
            num_gpus=pools.gpus,
            **RETRIES,
        )
    return rows.map_batches(
        StoreStage,
        fn_constructor_args=(plan, ledger),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=pools.writers, enable_true_multi_threading=True),  # in its task
        num_cpus=pools.write_cpus,
        **RETRIES,
    )


def with_threads(settings: Settings, threads: int | None) -> Settings:
    return settings.model_copy(update={"embedding": settings.embedding.model_copy(update={"threads": threads})})


def reads(inputs: Sequence[Input]) -> Iterator[list[Input]]:
    """What one call of ReadStage or CopyStage takes."""
    weights = [COPIED_BYTES if each.versions else each.size_bytes for each in inputs]
    most_bytes = max(READ_BYTES, sum(weights) // MOST_READS)
    for some in slices(zip(inputs, weights, strict=True), READ_INPUTS, most_bytes, lambda one: one[1]):
        yield [each for each, _ in some]


def to_block(inputs: Sequence[Input]) -> pa.Table:
    return pa.Table.from_pylist([each.to_columns() for each in inputs], schema=Input.SCHEMA)


def bound(context: DataContext, queued_bytes: int) -> None:
    """No more than this between the stages, however large the corpus is, in blocks as they are made (see rows)."""
    context.target_max_block_size = context.target_min_block_size = 1
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=queued_bytes)


def quiet(context: DataContext) -> None:
    """No output but ours."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # Ray has no other way to bound retries


def platform_error(error: BaseException | None) -> PlatformError | None:
    """The error of ours that Ray wrapped, if there is one. Ray's own is of our class, too, with a traceback as text."""
    while error is not None and (isinstance(error, RayTaskError) or not isinstance(error, PlatformError)):
        error = getattr(error, "cause", None) or error.__cause__
    return error
