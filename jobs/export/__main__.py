"""`python -m jobs.export`: write a collection with its vectors to a file, or import such a file."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from ray.exceptions import RayError
from rich.console import Console
from rich.text import Text

from jobs.export.file import BATCH_DOCUMENTS, Header, reading, require_known_suffix, writing
from jobs.runtime.patience import patiently
from jobs.runtime.ray_session import ray_session
from jobs.runtime.slices import slices
from jobs.runtime.steps import Steps
from serve_app.deployments.store import connect_store
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError, Unavailable
from serve_app.ports import IndexingStore, VectorStore
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL, Scope, job_principal

FAILED, USAGE, INTERRUPTED = 1, 2, 130
DOCUMENTS_AT_ONCE = 8  # read from the store in one call; each may have thousands of passages
PASSAGES_AT_ONCE = 1_024  # written to the store in one call

EXAMPLES = """\b
Examples:
  python -m jobs.export --collection handbook --to handbook.parquet
  python -m jobs.export --collection handbook --to handbook.jsonl.gz
  python -m jobs.export --collection copy --from handbook.parquet

The file has one row for each document, with its passages, their vectors and BM25 terms, so an import embeds nothing.
If the collection exists, it must use the same model. An import skips unchanged documents and replaces changed ones. An
export's file appears only when it is complete.

The last line of stdout is a JSON object: documents and passages (in the file, or imported), unchanged, skipped (deleted
or rewritten during the export), seconds. Exit code: 0 done, 1 failed, 2 usage error or bad file, 130 interrupted."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)
Counts = dict[str, int]
Advance = Callable[[str, int, int], None]  # step, done, total
Action = Callable[[VectorStore, Advance], Coroutine[Any, Any, Counts]]


@cli.command(epilog=EXAMPLES)
def export(
    *,
    collection: Annotated[str, typer.Option(help="Collection to export, or to import into.")],
    to: Annotated[Path | None, typer.Option(help="File to write: .parquet, .jsonl or .jsonl.gz.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="File to import.")] = None,
    tenant: Annotated[str, typer.Option(help="Tenant that owns the collection.")] = LOCAL_PRINCIPAL.tenant,
    address: Annotated[
        str | None,
        typer.Option(help='Address of the Ray cluster; "local" starts one.', show_default="a running one, else local"),
    ] = None,
) -> None:
    """Export a collection with its vectors to a file, or import such a file."""
    started_s = time.monotonic()
    try:
        settings = load_settings()
        scope = job_principal(tenant, "jobs.export").scope(collection)
        action = action_of(scope, to, from_)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with ray_session(address, settings), Steps(errors) as steps:
            counts = asyncio.run(with_store(settings, action, steps.advance))
    except KeyboardInterrupt:
        errors.print("interrupted; run the same command again")
        raise typer.Exit(INTERRUPTED) from None
    except (PlatformError, RayError) as error:
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE if isinstance(error, InvalidInput | ConfigurationError) else FAILED) from error
    print(json.dumps({**counts, "seconds": round(time.monotonic() - started_s, 3)}))


def action_of(scope: Scope, to: Path | None, from_: Path | None) -> Action:
    """Raises InvalidInput unless exactly one file with a known suffix is given, and its folder exists."""
    path = to or from_
    if path is None or (to and from_):
        raise InvalidInput("give one file: --to FILE exports to it, --from FILE imports it")
    require_known_suffix(path)
    if from_:
        return partial(import_file, scope, from_)
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(f"{path} is a folder" if path.is_dir() else f"{path}: there is no folder {path.parent}")
    return partial(export_file, scope, path)


async def with_store(settings: Settings, action: Action, advance: Advance) -> Counts:
    store = connect_store(settings)
    try:
        return await action(store, advance)
    finally:
        await store.close()


async def export_file(scope: Scope, path: Path, store: VectorStore, advance: Advance) -> Counts:
    """Raises NotFound, StoreUnavailable, Unavailable if the file cannot be written."""
    info = await patiently(partial(store.count, scope))
    documents = passages = skipped = 0
    cursor: str | None = None
    try:
        with writing(path, Header(info.space, info.documents)) as write:
            while True:
                page = await patiently(partial(store.listing, scope, limit=BATCH_DOCUMENTS, cursor=cursor))
                for some in slices(page.documents, DOCUMENTS_AT_ONCE):
                    found = await patiently(partial(store.indexed_documents, scope, [each.id for each in some]))
                    write(list(found.values()))
                    documents += len(found)
                    skipped += len(some) - len(found)
                    passages += sum(len(one.passages) for one in found.values())
                    advance("exporting", documents + skipped, max(info.documents, documents + skipped))
                if (cursor := page.cursor) is None:
                    break
    except OSError as error:
        raise Unavailable(f"{path} could not be written and is unchanged: {error}") from error
    return {"documents": documents, "passages": passages, "unchanged": 0, "skipped": skipped}


async def import_file(scope: Scope, path: Path, store: IndexingStore, advance: Advance) -> Counts:
    """After an error, the documents imported before it remain. Raises InvalidInput if the file is not an export or
    is damaged, Conflict if the collection uses another model, StoreUnavailable."""
    written = passages = unchanged = 0
    with reading(path) as (header, batches):
        await patiently(partial(store.write, scope, header.space, []))
        for batch in batches:
            stored = await patiently(partial(store.fingerprints, scope, [one.document.id for one in batch]))
            changed = [one for one in batch if stored.get(one.document.id) != one.fingerprint]
            for some in slices(changed, BATCH_DOCUMENTS, PASSAGES_AT_ONCE, lambda one: len(one.passages)):
                await patiently(partial(store.write, scope, header.space, some))
            written += len(changed)
            unchanged += len(batch) - len(changed)
            passages += sum(len(one.passages) for one in changed)
            advance("importing", written + unchanged, max(header.documents, written + unchanged))
    return {"documents": written, "passages": passages, "unchanged": unchanged, "skipped": 0}


if __name__ == "__main__":
    cli()
