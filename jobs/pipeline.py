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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.exceptions import RayTaskError

from jobs.copying import CopyStage
from jobs.cutting import Plan
from jobs.execution import run_apart
from jobs.inputs import Input
from jobs.slices import slices
from jobs.stages import EmbedStage, ReadStage, StoreStage
from serve_app.errors import ConfigurationError, PlatformError, Unavailable
from serve_app.settings import EmbeddingSettings, Settings

READ_INPUTS, READ_BYTES = 512, 1024 * 1024  # at most in one call of ReadStage; a million files are not as many calls
LEAST_READ_INPUTS = 16  # however big they are
EMBED_CALLS = 2  # of an embedder at once: one is embedded while the other is unpacked, tokenised and packed
QUEUED_BLOCKS = 64  # for each embedder, between all stages; beyond it reading waits
BYTES_PER_TOKEN = 14  # of a block that is to be embedded; measured: 13 to 15
WRITERS = 2
LEAST_FREE_CPUS = 0.05
# What kills its process again and again ends the run; Ray Data's own default is to try for ever. A task may be tried as
# often as its actor lives: while Ray finds out that a node is dead, it fails every second.
RETRIES: dict[str, Any] = {"max_restarts": 3, "max_task_retries": -1}


@dataclass(frozen=True, slots=True)
class CpuShares:
    """CPUs that one worker of each stage reserves. It uses what is free; the number only places it."""

    read: float
    embed: float
    write: float


def cpu_shares(free_cpus: float, embedders: int, threads: int | None) -> CpuShares:
    """One embedder is placed on what is free, as little as that may be, so that a run starts beside a busy Serve app.
    Several take `threads` CPUs each (1 if None), for they would fight over a machine.
    Raises ConfigurationError if no CPU is free."""
    if free_cpus < LEAST_FREE_CPUS:
        raise ConfigurationError(f"the cluster has {free_cpus:g} CPUs free: add a node, or end what holds them")
    share = min(1.0, free_cpus / 2)
    embed = share if embedders == 1 else float(threads or 1)
    return CpuShares(read=round(share / 4, 3), embed=round(embed, 3), write=round(share / 8, 3))


def run_pipeline(inputs: Sequence[Input], plan: Plan, ledger: Any, *, embedders: int) -> None:
    """Blocks until all inputs are through. ledger: handle of a Ledger actor.

    Raises the PlatformError that ended it, Unavailable for whatever Ray or Ray Data raised. What was written until
    then stays, and a new run passes over it.
    """
    bound(DataContext.get_current(), QUEUED_BLOCKS * BYTES_PER_TOKEN * plan.tokens_per_block * embedders)
    quiet(DataContext.get_current())
    try:
        reports = run_apart(lambda: pipeline(inputs, plan, ledger, embedders))
        run_apart(partial(exhaust, reports))
    except Exception as error:
        ours = platform_error(error)
        raise ours or Unavailable(f"Ray ended the run: {type(error).__name__}: {error}") from error


def exhaust(rows: Dataset) -> None:
    """Not materialize(), which keeps 20 KB for each block until the end."""
    for _ in rows.iter_internal_ref_bundles():
        pass


def pipeline(inputs: Sequence[Input], plan: Plan, ledger: Any, embedders: int) -> Dataset:
    """Lazy, but for a task that looks at the inputs. Raises ConfigurationError if no CPU is free."""
    embedding = plan.settings.embedding
    free_cpus = ray.available_resources().get("CPU", 0.0)  # type: ignore[no-untyped-call]
    all_gpus = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    cpus = cpu_shares(free_cpus, embedders, embedding.threads)
    rows = ray.data.from_arrow([to_block(some) for some in reads(inputs)]).map_batches(
        CopyStage if plan.source else ReadStage,
        fn_constructor_args=(plan, ledger),
        batch_size=None,  # a block
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=embedders),
        num_cpus=cpus.read,
        **RETRIES,
    )
    if not plan.dry_run:
        rows = rows.map_batches(
            EmbedStage,
            fn_constructor_args=(engine_settings(plan.settings, embedders),),
            batch_size=None,  # a block
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=embedders,
                max_concurrent_calls_per_actor=EMBED_CALLS,
                enable_true_multi_threading=True,
            ),
            num_cpus=cpus.embed,
            num_gpus=gpus(embedding, all_gpus),
            **RETRIES,
        )
    return rows.map_batches(
        StoreStage,
        fn_constructor_args=(plan, ledger),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=WRITERS, enable_true_multi_threading=True),  # in its task
        num_cpus=cpus.write,
        **RETRIES,
    )


def gpus(embedding: EmbeddingSettings, in_cluster: float) -> int:
    """That an embedder takes: of the torch engine one, where it may and there is any. Ray hides what is not taken."""
    is_wanted = embedding.device == "cuda" or (embedding.device == "auto" and in_cluster >= 1)
    return int(embedding.engine == "torch" and is_wanted)


def engine_settings(settings: Settings, embedders: int) -> Settings:
    """With the number of threads that `cpu_shares` reserves."""
    threads = settings.embedding.threads or (None if embedders == 1 else 1)
    return settings.model_copy(update={"embedding": settings.embedding.model_copy(update={"threads": threads})})


def reads(inputs: Iterable[Input]) -> Iterator[list[Input]]:
    """What one call of ReadStage or CopyStage takes."""
    most = READ_BYTES // LEAST_READ_INPUTS
    return slices(inputs, READ_INPUTS, READ_BYTES, lambda each: most if each.versions else min(each.size_bytes, most))


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
