"""`python -m jobs.index`: put documents into a collection."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from ray.exceptions import RayError
from rich.console import Console
from rich.text import Text

from jobs.index.progress import ProgressDisplay, clock, summary
from jobs.index.run import index_source
from jobs.pipeline.actor_pools import CPU_BLOCK_TOKENS, GPU_BLOCK_TOKENS
from jobs.pipeline.dead_letters import DeadLetterFile, default_path, read_letters
from jobs.pipeline.inputs import inputs_of, to_retry, total_bytes
from jobs.pipeline.ledger import Report
from jobs.pipeline.tally import Tally
from jobs.runtime.ray_session import ray_session
from serve_app.documents.sources import is_glob
from serve_app.errors import ConfigurationError, InvalidInput, PlatformError
from serve_app.settings import Settings, load_settings
from serve_app.types import LOCAL_PRINCIPAL, job_principal

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130  # 130: 128 + SIGINT, as shells count

EXAMPLES = """\b
Examples:
  python -m jobs.index --source docs/ --collection handbook
  python -m jobs.index --source 'reports/**/*.pdf' --collection reports
  python -m jobs.index --source corpus.jsonl --collection papers --dead-letters failed.jsonl
  python -m jobs.index --source python-packages --collection demo
  python -m jobs.index --source docs/ --collection handbook --prune --dry-run
  python -m jobs.index --source docs/ --collection handbook --retry failed.jsonl
  ray job submit --working-dir . -- python -m jobs.index --source /data --collection handbook

Run it again at any time: what is stored and unchanged is passed over; of what changed, only new texts are embedded,
and passages that are stored just so, at the same place, are not written again. With --prune, documents that the source
no longer has are deleted at the end, so that the collection is exactly the source. A document that cannot be indexed
goes to the dead letters and ends nothing; its stored version stays. So does a file that is changed while it is read,
or has vanished since it was listed, and one that is too long (64 MiB as a whole, 16 Mi characters a row). A store that
is away, or refuses for want of room on its disk, is waited for two minutes.

A source of less than 4 MiB is indexed by this process itself, without actors on the cluster, unless --concurrency or
--block-tokens is given. A model on a GPU always takes actors.

The last line of stdout is JSON: documents and passages (indexed), unchanged, deleted, failed, seconds (without the
start of Ray), passages_per_s, replaced (documents), embedded (passages), dry_run. Exit code: 0 done, 1 failed or every
document failed, 2 wrong use, 130 interrupted."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


@cli.command(epilog=EXAMPLES)
def index(
    *,
    source: Annotated[str, typer.Option(help="File, folder, glob, or python-packages: READMEs and docstrings.")],
    collection: Annotated[str, typer.Option(help="Where to put it; made at need.")],
    tenant: Annotated[str, typer.Option(help="Whose collection.")] = LOCAL_PRINCIPAL.tenant,
    dead_letters: Annotated[
        Path | None, typer.Option(help="What failed, and why, as JSON lines.", show_default="in the data folder")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what the source no longer has.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be done; embed, store and delete nothing (dead letters are written)."
        ),
    ] = False,
    retry: Annotated[
        Path | None, typer.Option(help="Dead letters of an earlier run of this source: only what they name.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Embedding actors. One uses all CPUs of its machine; of several that are asked for each takes "
            "AIDOCS_EMBEDDING__THREADS (or 1).",
            show_default="one on each GPU, else on each node; none for a small source",
        ),
    ] = None,
    block_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="About so many go through the stages together.",
            show_default=f"{CPU_BLOCK_TOKENS:,}, or {GPU_BLOCK_TOKENS:,} where GPUs embed",
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help='Ray cluster; "local" starts one.', show_default="the running one, else local")
    ] = None,
) -> None:
    """Read, cut, embed and store documents: Markdown, HTML, PDF, text, JSON lines and more."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of `ray job stop` or Kubernetes: as Ctrl-C
    try:
        settings = load_settings()
        scope = job_principal(tenant, "jobs.index").scope(collection)
        if prune and retry:
            raise InvalidInput("--prune needs the whole source: --retry leaves out most of it")
        if prune and is_glob(source):
            raise InvalidInput("--prune needs a folder or a file: a glob passes over folders that cannot be listed")
        inputs = inputs_of(source)
        if retry:
            inputs, left = to_retry(inputs, read_letters(retry))
            if left:
                errors.print(
                    Text(f"{len(left)} dead letters need the whole source, or are of what is gone: {left[0].source} …")
                )
        letters = DeadLetterFile(dead_letters or default_path(settings.data_dir, collection, datetime.now(UTC)))
    except KeyboardInterrupt:
        errors.print("interrupted while the source was listed: nothing is done yet")
        raise typer.Exit(INTERRUPTED) from None
    except (InvalidInput, ConfigurationError) as error:
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE) from error
    with letters:
        index_inputs = partial(
            index_source, inputs, scope, settings,
            embedders=concurrency, block_tokens=block_tokens, prunes=prune, dry_run=dry_run,
        )  # fmt: skip
        display = ProgressDisplay(f"{'Comparing' if dry_run else 'Indexing'} {collection}", total_bytes(inputs), errors)
        code, total, seconds = run(index_inputs, display, settings, letters, address)
    if total.failed and letters.path.exists():
        errors.print(Text(f"{total.failed:,} failed; what and why: {letters.path}"))
    print(json.dumps(result(total, seconds, dry_run=dry_run)), flush=True)
    raise typer.Exit(code)


def run(
    index_inputs: Callable[[Tally], None],
    display: ProgressDisplay,
    settings: Settings,
    letters: DeadLetterFile,
    address: str | None,
) -> tuple[int, Report, float]:
    """Exit code, what was done (also where it failed), and seconds without the start of Ray."""
    tally = Tally(letters)
    started_s = time.monotonic()
    try:
        with ExitStack() as session:
            with errors.status("connecting to Ray"):
                session.enter_context(ray_session(address, settings))
            started_s = time.monotonic()
            with display:
                tally.show = display.show
                index_inputs(tally)
            seconds = time.monotonic() - started_s
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here: what is stored is passed over")
        return INTERRUPTED, tally.total, time.monotonic() - started_s
    except (PlatformError, RayError) as error:
        errors.print(Text(f"error: {error}"))
        return FAILED, tally.total, time.monotonic() - started_s
    errors.print(Text(f"{display.title}: {summary(tally.total, seconds)} in {clock(seconds)}"))
    return exit_code(tally.total), tally.total, seconds


def exit_code(total: Report) -> int:
    return FAILED if total.failed and total.failed == total.documents else OK


def result(total: Report, seconds: float, *, dry_run: bool) -> dict[str, int | float]:
    """The last line; of a dry run, what would be done."""
    return {
        "documents": total.indexed,
        "passages": total.passages,
        "unchanged": total.unchanged,
        "deleted": total.deleted,
        "failed": total.failed,
        "seconds": round(seconds, 3),
        "passages_per_s": round(total.passages / seconds, 1) if seconds else 0.0,
        "replaced": total.replaced,
        "embedded": total.embedded,
        "dry_run": dry_run,
    }


if __name__ == "__main__":
    cli()
