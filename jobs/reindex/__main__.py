"""`python -m jobs.reindex`: build a new index of a collection for another model, precision or chunking."""

from __future__ import annotations

import json
import random
import signal
import time
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from ray.exceptions import RayError
from rich.console import Console
from rich.text import Text

from jobs.pipeline.dead_letters import DeadLetterFile, default_path
from jobs.pipeline.ledger import Report
from jobs.reindex.build import Advance, Reindexing, ReindexOptions, Session, build, plan_of, recipe_of, verify
from jobs.reindex.compare import compare_indexes, judged_of, require_not_worse
from jobs.reindex.plan import index_to_return_to
from jobs.reindex.switch import drop_others, take_over
from jobs.runtime.ray_session import ray_session
from jobs.runtime.steps import Steps
from serve_app.deployments.store import connect_store
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL, IndexInfo, Recipe, Scope, job_principal

FAILED, USAGE, INTERRUPTED = 1, 2, 130

EXAMPLES = """\b
Examples:
  python -m jobs.reindex --collection handbook --max-tokens 128 --overlap 16
  python -m jobs.reindex --collection handbook --model BAAI/bge-base-en-v1.5
  python -m jobs.reindex --collection handbook --precision fp32 --drop-old
  python -m jobs.reindex --collection handbook --model BAAI/bge-base-en-v1.5 --evaluate judged/
  python -m jobs.reindex --collection handbook --list
  python -m jobs.reindex --collection handbook --rollback
  python -m jobs.reindex --collection handbook --drop-old
  ray job submit --working-dir . -- python -m jobs.reindex --collection handbook --max-tokens 128

The job builds a new index from the stored texts, beside the old one. It copies the changes that are made meanwhile,
verifies the new index and makes it active in one step. Searches, uploads and deletes continue throughout; during the
switch, writes wait for less than the store's timeout. The old index is kept until you run --drop-old. --rollback
copies later changes into it and makes it active again. Searches do not see the new index before the switch. If a run is
interrupted, the same command continues it. Later uploads are chunked and embedded like the active index, except that
they use the service's precision (AIDOCS_EMBEDDING__PRECISION), which --precision does not change.

Before you use another model, add it to AIDOCS_EMBEDDING__FURTHER_MODELS of the service.

--evaluate runs the queries of a BEIR folder (queries.jsonl and qrels/test.tsv, with document ids of the collection) on
both indexes before the switch, in hybrid mode with the default profile. It refuses the switch if the new index's
nDCG@10 is significantly worse: the 95 % interval of the difference (paired bootstrap) is below 0 and p (paired
randomisation test) is below 0.05. At least 6 queries must have a relevant document in the collection.

The last line of stdout is a JSON object: collection, index (the active one), former (the index that was active before;
null if unchanged), documents, copied (documents), passages and embedded (of the copied documents), unchanged (documents
that an earlier run copied), deleted, rounds, verified (documents in the sample), evaluation (null without --evaluate;
else queries, metric, old, new, difference, interval, p), dropped (indexes; with --dry-run, those that would be
dropped), dry_run, seconds. Exit code: 0 done, 1 failed, 2 usage error, 130 interrupted."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


class PrecisionName(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


@cli.command(epilog=EXAMPLES)
def reindex(
    *,
    collection: Annotated[str, typer.Option(help="Collection to reindex.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Embedding model: AIDOCS_EMBEDDING__MODEL or one of __FURTHER_MODELS.", show_default="unchanged"
        ),
    ] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Precision of this job's embeddings.", show_default="unchanged")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest passage in tokens, with title and headings.", show_default="unchanged"),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0, help="Tokens that two parts of a split paragraph have in common.", show_default="unchanged"
        ),
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option(help="BEIR folder; refuse the switch if the new index ranks worse.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Make an inactive index active again.")] = False,
    index: Annotated[
        str | None,
        typer.Option(help="Index that --rollback activates.", show_default="`first`, if it is the only inactive one"),
    ] = None,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Drop all inactive indexes afterwards.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the indexes and exit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    tenant: Annotated[str, typer.Option(help="Tenant that owns the collection.")] = LOCAL_PRINCIPAL.tenant,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Embedding actors.", show_default="one for each GPU, else one for each node"),
    ] = None,
    block_documents: Annotated[int, typer.Option(min=1, help="Documents in each block of the pipeline.")] = 64,
    address: Annotated[
        str | None,
        typer.Option(help='Address of the Ray cluster; "local" starts one.', show_default="a running one, else local"),
    ] = None,
) -> None:
    """Build a new index of a collection beside the old one and make it active."""
    started_s = time.monotonic()
    options = ReindexOptions(model, precision.value if precision else None, max_tokens, overlap)
    try:
        require_sensible(options, rollback=rollback, index=index, lists=list_, drops=drop_old, evaluate=evaluate)
        settings, scope = load_settings(), job_principal(tenant, "jobs.reindex").scope(collection)
        letters = DeadLetterFile(default_path(settings.data_dir, f"{collection}-reindex", datetime.now(UTC)))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with letters, ray_session(address, settings), Steps(errors) as steps:
            session = Session(connect_store(settings))
            try:
                if list_:
                    result = listed(session, scope)
                else:
                    result = reindexed(
                        session, scope, settings, options, letters=letters, advance=steps.advance,
                        embedders=concurrency, block_documents=block_documents,
                        evaluates=evaluate, rolls_back=rollback, to=index, drops=drop_old, dry_run=dry_run,
                    )  # fmt: skip
            finally:
                session.close()
    except KeyboardInterrupt:
        errors.print("interrupted; run the same command again to continue, or --list to see which index is active")
        raise typer.Exit(INTERRUPTED) from None
    except (PlatformError, RayError) as error:
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE if isinstance(error, InvalidInput | ConfigurationError) else FAILED) from error
    print(json.dumps({**result, "seconds": round(time.monotonic() - started_s, 3)}), flush=True)


def require_sensible(
    options: ReindexOptions, *, rollback: bool, index: str | None, lists: bool, drops: bool, evaluate: Path | None
) -> None:
    """Raises InvalidInput."""
    if index is not None and not rollback:
        raise InvalidInput("--index is only used with --rollback: add --rollback or remove --index")
    if rollback and options != ReindexOptions():
        raise InvalidInput(
            "--rollback activates an index as it is: remove --model, --precision, --max-tokens and --overlap"
        )
    if evaluate and (lists or options == ReindexOptions()):
        raise InvalidInput(
            "--evaluate compares a new index with the old one: add --model, --precision, --max-tokens or --overlap"
        )
    if not (rollback or lists or drops or options != ReindexOptions()):
        raise InvalidInput("nothing to do: add --model, --precision, --max-tokens or --overlap, or use --list")


def reindexed(
    session: Session,
    scope: Scope,
    settings: Settings,
    options: ReindexOptions,
    *,
    letters: DeadLetterFile,
    advance: Advance,
    embedders: int | None = None,
    block_documents: int = 64,
    evaluates: Path | None = None,
    rolls_back: bool = False,
    to: str | None = None,
    drops: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Returns the result to print; in a dry run, what it would be. Raises InvalidInput, ConfigurationError, NotFound,
    Conflict, VerificationFailed, StoreUnavailable, EngineUnavailable, Unavailable."""
    active = session.ask(partial(session.store.active_index, scope))
    name, recipe = wanted_index(session, active, options, settings, rolls_back=rolls_back, to=to)
    wanted = IndexInfo(active.scope.at(name), recipe, is_active=False)
    judged = judged_of(session, (active, wanted), settings, evaluates) if evaluates else None
    total, rounds, verified, found, is_new = Report(), 0, 0, None, name != active.scope.index
    if is_new and not dry_run:
        plan = plan_of(active, recipe, name, settings)
        work = Reindexing(session, plan, active.scope, letters, advance, embedders, block_documents)
        copied = build(work, recipe)
        verified = verify(work, list(copied), random.Random())
        if judged:
            found = compare_indexes(work, (active, wanted), judged, settings)
            require_not_worse(found, name)
        take_over(work, copied)
        total, rounds = work.total, work.rounds
    return {
        "collection": scope.collection,
        "index": name,
        "former": active.scope.index if is_new else None,
        "documents": session.ask(partial(session.store.count, scope)).documents,
        "copied": total.indexed,
        "passages": total.passages,
        "embedded": total.embedded,
        "unchanged": total.unchanged,
        "deleted": total.deleted,
        "rounds": rounds,
        "verified": verified,
        "evaluation": found.figures() if found else None,
        "dropped": dropped(session, scope, name, dry_run=dry_run) if drops else [],
        "dry_run": dry_run,
    }


def dropped(session: Session, scope: Scope, active: str, *, dry_run: bool) -> list[str]:
    """Names of the indexes that were dropped or, in a dry run, would be. active: name of the active index by then."""
    if not dry_run:
        return drop_others(session, scope)
    names = [each.scope.index for each in session.ask(partial(session.store.indexes, scope))]
    return [name for name in names if name != active]


def wanted_index(
    session: Session,
    active: IndexInfo,
    options: ReindexOptions,
    settings: Settings,
    *,
    rolls_back: bool,
    to: str | None,
) -> tuple[str, Recipe]:
    """Name and recipe of the index to activate; those of the active index if the options change nothing."""
    if rolls_back:
        former = index_to_return_to(session.ask(partial(session.store.indexes, active.scope.at(""))), to)
        return former.scope.index, former.recipe
    if options == ReindexOptions():
        return active.scope.index, active.recipe
    recipe = recipe_of(active.recipe, options, settings)
    return (active.scope.index if recipe == active.recipe else recipe.index_name), recipe


def listed(session: Session, scope: Scope) -> dict[str, Any]:
    rows = []
    for each in session.ask(partial(session.store.indexes, scope)):
        counted = session.ask(partial(session.store.count, each.scope))
        recipe = each.recipe
        rows.append(
            {
                "index": each.scope.index,
                "active": each.is_active,
                "documents": counted.documents,
                "passages": counted.passages,
                "model": recipe.space.model,
                "revision": recipe.space.revision,
                "dimensions": recipe.space.dim,
                "max_tokens": recipe.max_tokens,
                "overlap_tokens": recipe.overlap_tokens,
                "precision": recipe.precision,
            }
        )
    return {"collection": scope.collection, "indexes": rows}


if __name__ == "__main__":
    cli()
