"""The indexing pipeline without Ray Data: the same stages, one after the other, in the driver's own process.

Ray Data takes ten seconds to start its actors, which a small source does not win back.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from jobs.pipeline.block_vectors import texts_to_embed
from jobs.pipeline.cutting import IndexingPlan
from jobs.pipeline.inputs import Input
from jobs.pipeline.ledger import Ledger
from jobs.pipeline.stages import EmbedStage, ReadStage, StoreStage
from jobs.runtime.apart import run_apart
from serve_app.errors import PlatformError, Unavailable

BLOCK_TOKENS = 16_384  # what two cores embed in a second, so that progress is shown every second


def run_in_driver(inputs: Sequence[Input], plan: IndexingPlan, ledger: Ledger) -> None:
    """Blocks until all inputs are through; Ctrl-C ends it after the block at hand.

    Raises the PlatformError that ended it, Unavailable for whatever else was raised. What was written until then stays,
    and a new run passes over it.
    """
    stopped = threading.Event()
    plan = replace(plan, block_tokens=plan.block_tokens or BLOCK_TOKENS)
    in_order = sorted(inputs, key=lambda each: each.place)  # of documents with one id the first is kept
    try:
        run_apart(partial(index_all, in_order, plan, ledger, stopped), stopped.set)
    except PlatformError:
        raise
    except Exception as error:
        raise Unavailable(f"the run ended: {type(error).__name__}: {error}") from error


def index_all(inputs: Sequence[Input], plan: IndexingPlan, ledger: Ledger, stopped: threading.Event) -> None:
    """Until `stopped`. The engine is loaded for the first text that needs it, so not at all where nothing changed."""
    embed: EmbedStage | None = None
    with closing(ReadStage(plan, ledger)) as read, closing(StoreStage(plan, ledger)) as store:
        for number, block in enumerate(read.blocks(inputs)):
            if stopped.is_set():
                return
            if plan.dry_run or not texts_to_embed(block):
                ledger.written(str(number), store.write(block))
                continue
            embed = embed or EmbedStage(plan.settings)
            ledger.written(str(number), store.write(embed(block)))
