"""`python -m jobs.reindex`: a collection's index made anew, for another model, precision or chunking."""

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
from jobs.reindex.build import Advance, Session, Wish, Work, build, plan_of, recipe_of, verify
from jobs.reindex.compare import compare_indexes, judged_of, require_not_worse
from jobs.reindex.plan import index_to_return_to
from jobs.reindex.switch import drop_others, take_over
from jobs.runtime.ray_session import ray_session
from jobs.runtime.steps import Steps
from serve_app.deployments.store import connect_store
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL, IndexInfo, Recipe, Scope

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

The new index is built beside the old one from the stored texts, is brought up to what is written meanwhile, verified,
and takes the old one's place at once. Searches, uploads and deletes go on throughout; in the moment of the switch
writes wait, for less than a call of the store may take. The old index stays until --drop-old: --rollback copies into
it what was written since, and lets it answer again. Until the switch a run that is cut off has changed nothing
that a search can see; the same command goes on from what is copied. Uploads into the collection are cut as its index
is, by its model; in the service's own precision (AIDOCS_EMBEDDING__PRECISION), which --precision does not change.

A further model is to be in AIDOCS_EMBEDDING__ALSO of the service before.

--evaluate asks the queries of a BEIR folder (queries.jsonl, qrels/test.tsv, with the ids of the collection's
documents) of both indexes before the switch, as the service does: hybrid, default profile. It refuses the switch if
the new one's nDCG@10 is worse by more than chance: the 95 % interval of the difference (paired bootstrap) is below 0,
and p (paired randomisation test) below 0.05. At least 6 queries must have a relevant document in the collection.

The last line of stdout is JSON: collection, index (that answers), former (index, null if it was so before), documents,
copied (documents), passages and embedded (of those copied), unchanged (copied by an earlier run), deleted, rounds,
verified (documents of the sample), evaluation (null where none was made; else queries, metric, old, new, difference,
interval, p), dropped (indexes, or with --dry-run those that would be), dry_run, seconds. Exit code: 0 done, 1 failed,
2 wrong use, 130 interrupted."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


class PrecisionName(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


@cli.command(epilog=EXAMPLES)
def reindex(
    *,
    collection: Annotated[str, typer.Option(help="Which.")],
    model: Annotated[
        str | None, typer.Option(help="One of AIDOCS_EMBEDDING__MODEL and __ALSO.", show_default="its present one")
    ] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="In which this job embeds all anew.", show_default="as it is")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a passage with its title and headings.", show_default="as it is")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Tokens that passages share, where a paragraph had to be cut.")
    ] = None,
    evaluate: Annotated[Path | None, typer.Option(help="BEIR folder: refuse what ranks its queries worse.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the former index answer again.")] = False,
    index: Annotated[
        str | None, typer.Option(help="Which one --rollback takes.", show_default="the first, if it is the only other")
    ] = None,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Then remove all indexes that do not answer.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the indexes, and do nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose collection.")] = LOCAL_PRINCIPAL.tenant,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Embedding actors.", show_default="one on each GPU, else on each node"),
    ] = None,
    block_documents: Annotated[int, typer.Option(min=1, help="So many go through the stages together.")] = 64,
    address: Annotated[
        str | None, typer.Option(help='Ray cluster; "local" starts one.', show_default="the running one, else local")
    ] = None,
) -> None:
    """Build a collection's new index beside the old one, and let it answer."""
    started_s = time.monotonic()
    wish = Wish(model, precision.value if precision else None, max_tokens, overlap)
    try:
        require_sensible(wish, rollback=rollback, index=index, lists=list_, drops=drop_old, evaluate=evaluate)
        settings, scope = load_settings(), Scope(tenant, collection)
        letters = DeadLetterFile(default_path(settings.data_dir, f"{collection}-reindex", datetime.now(UTC)))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with letters, ray_session(address, settings), Steps(errors) as steps:
            session = Session(connect_store(settings))
            try:
                if list_:
                    result = listed(session, scope)
                else:
                    result = reindexed(
                        session, scope, settings, wish, letters=letters, advance=steps.advance,
                        embedders=concurrency, block_documents=block_documents,
                        evaluates=evaluate, rolls_back=rollback, to=index, drops=drop_old, dry_run=dry_run,
                    )  # fmt: skip
            finally:
                session.close()
    except KeyboardInterrupt:
        errors.print("interrupted; --list shows which index answers, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    except (PlatformError, RayError) as error:
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE if isinstance(error, InvalidInput | ConfigurationError) else FAILED) from error
    print(json.dumps({**result, "seconds": round(time.monotonic() - started_s, 3)}), flush=True)


def require_sensible(
    wish: Wish, *, rollback: bool, index: str | None, lists: bool, drops: bool, evaluate: Path | None
) -> None:
    """Raises InvalidInput."""
    if index is not None and not rollback:
        raise InvalidInput("--index says to which one --rollback returns: add that, or leave it out")
    if rollback and wish != Wish():
        raise InvalidInput("--rollback takes the former index as it is: leave out what the new one would be")
    if evaluate and (lists or wish == Wish()):
        raise InvalidInput("--evaluate compares a new index with the old one: say how that is to be made, or omit it")
    if not (rollback or lists or drops or wish != Wish()):
        raise InvalidInput("say what is to be another one: --model, --precision, --max-tokens, --overlap; or --list")


def reindexed(
    session: Session,
    scope: Scope,
    settings: Settings,
    wish: Wish,
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
    """What was done, or would be. Raises InvalidInput, ConfigurationError, NotFound, Conflict, VerificationFailed,
    StoreUnavailable, EngineUnavailable, Unavailable."""
    answering = session.ask(partial(session.store.answering, scope))
    name, recipe = wanted_index(session, answering, wish, settings, rolls_back=rolls_back, to=to)
    wanted = IndexInfo(answering.scope.at(name), recipe, answers=False)
    judged = judged_of(session, (answering, wanted), settings, evaluates) if evaluates else None
    total, rounds, verified, found, is_new = Report(), 0, 0, None, name != answering.scope.index
    if is_new and not dry_run:
        plan = plan_of(answering, recipe, name, settings)
        work = Work(session, plan, answering.scope, letters, advance, embedders, block_documents)
        copied = build(work, recipe)
        verified = verify(work, list(copied), random.Random())
        if judged:
            found = compare_indexes(work, (answering, wanted), judged, settings)
            require_not_worse(found, name)
        take_over(work, copied)
        total, rounds = work.total, work.rounds
    return {
        "collection": scope.collection,
        "index": name,
        "former": answering.scope.index if is_new else None,
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


def dropped(session: Session, scope: Scope, answers: str, *, dry_run: bool) -> list[str]:
    """Names of the indexes that are gone, or would be. answers: the name of the one that does, or would."""
    if not dry_run:
        return drop_others(session, scope)
    names = [each.scope.index for each in session.ask(partial(session.store.indexes, scope))]
    return [name for name in names if name != answers]


def wanted_index(
    session: Session, answering: IndexInfo, wish: Wish, settings: Settings, *, rolls_back: bool, to: str | None
) -> tuple[str, Recipe]:
    """Its name and how it is made; the one that answers where nothing is wished for, or where that is made so."""
    if rolls_back:
        former = index_to_return_to(session.ask(partial(session.store.indexes, answering.scope.at(""))), to)
        return former.scope.index, former.recipe
    if wish == Wish():
        return answering.scope.index, answering.recipe
    recipe = recipe_of(answering.recipe, wish, settings)
    return (answering.scope.index if recipe == answering.recipe else recipe.index_name), recipe


def listed(session: Session, scope: Scope) -> dict[str, Any]:
    rows = []
    for each in session.ask(partial(session.store.indexes, scope)):
        counted = session.ask(partial(session.store.count, each.scope))
        recipe = each.recipe
        rows.append(
            {
                "index": each.scope.index,
                "answers": each.answers,
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
