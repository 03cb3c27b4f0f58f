"""The indexing pipeline on Ray Data.

```text
inputs ─▶ ReadStage ────────▶ EmbedStage ───▶ StoreDatasink ──▶ Ledger (counts, dead letters)
or        a row a document,   dense vectors   whole documents,
CopyStage unchanged ones                      idempotent
          without text
```
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from jobs.copying import CopyStage
from jobs.cutting import Plan
from jobs.inputs import Input
from jobs.stages import EmbedStage, ReadStage, StoreDatasink
from serve_app.errors import ConfigurationError, PlatformError, Unavailable
from serve_app.settings import Settings

INPUTS_PER_READ = 16  # one call of ReadStage
BLOCK_BYTES = 128 * 1024  # travels between stages at once, a second or two of embedding on two cores
WRITERS = 2
LEAST_FREE_CPUS = 0.05
EXECUTOR_TIMEOUT_S = 30.0
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


def run_pipeline(inputs: Sequence[Input], plan: Plan, ledger: Any, *, embedders: int, batch_documents: int) -> None:
    """Blocks until all inputs are through. ledger: handle of a Ledger actor.

    Raises the PlatformError that ended it, Unavailable for whatever Ray or Ray Data raised. What was written until
    then stays, and a new run passes over it.
    """
    threads = plan.settings.embedding.threads
    free_cpus = ray.available_resources().get("CPU", 0.0)  # type: ignore[no-untyped-call]
    cpus = cpu_shares(free_cpus, embedders, threads)
    quiet(DataContext.get_current())
    try:
        rows = ray.data.from_arrow(
            [to_block(inputs[i : i + INPUTS_PER_READ]) for i in range(0, len(inputs), INPUTS_PER_READ)]
        ).map_batches(
            CopyStage if plan.source else ReadStage,
            fn_constructor_args=(plan, ledger),
            batch_size=INPUTS_PER_READ,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=embedders),
            num_cpus=cpus.read,
            **RETRIES,
        )
        if not plan.dry_run:
            rows = rows.map_batches(
                EmbedStage,
                fn_constructor_args=(engine_settings(plan.settings, embedders),),
                batch_size=batch_documents,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=1, max_size=embedders),
                num_cpus=cpus.embed,
                num_gpus=1 if plan.settings.embedding.device == "cuda" else 0,
                **RETRIES,
            )
        rows.write_datasink(StoreDatasink(plan, ledger), ray_remote_args={"num_cpus": cpus.write}, concurrency=WRITERS)
    except Exception as error:
        ours = platform_error(error)
        raise ours or Unavailable(f"Ray ended the run: {type(error).__name__}: {error}") from error
    finally:
        await_executor()


def await_executor() -> None:
    """After an error or Ctrl-C Ray Data's scheduling thread runs on for a while, and a Ray that is shut down under it
    ends the process at once, without its last line."""
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(EXECUTOR_TIMEOUT_S)


def engine_settings(settings: Settings, embedders: int) -> Settings:
    """With the number of threads that `cpu_shares` reserves."""
    threads = settings.embedding.threads or (None if embedders == 1 else 1)
    return settings.model_copy(update={"embedding": settings.embedding.model_copy(update={"threads": threads})})


def to_block(inputs: Sequence[Input]) -> pa.Table:
    return pa.Table.from_pylist([each.to_columns() for each in inputs], schema=Input.SCHEMA)


def quiet(context: DataContext) -> None:
    """Blocks of our size, and no output but ours."""
    context.target_max_block_size = BLOCK_BYTES
    context.target_min_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "The maximum number of concurrent tasks for 'Write'")  # in every small run
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # Ray has no other way to bound retries


def platform_error(error: BaseException | None) -> PlatformError | None:
    """The error of ours that Ray wrapped, if there is one."""
    while error is not None and not isinstance(error, PlatformError):
        error = getattr(error, "cause", None) or error.__cause__
    return error
