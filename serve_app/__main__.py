"""`python -m serve_app serve | start | stop | search`: the service on this machine."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.text import Text

from serve_app.errors import PlatformError
from serve_app.local import run as local
from serve_app.local import serve as local_serve
from serve_app.local.ports import require_free
from serve_app.settings import Settings, load_settings

if TYPE_CHECKING:
    from ray.serve import Application

cli = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def fail(message: str, code: int = 1) -> NoReturn:
    err.print(Text(f"error: {message}"))
    raise typer.Exit(code)


def read_settings() -> Settings:
    try:
        return load_settings()
    except PlatformError as error:
        fail(str(error), 2)


def application() -> Application:
    from serve_app.main import AppArguments, app  # imports Ray, which reads the environment of the run

    return app(AppArguments())


@cli.command()
def serve() -> None:
    """Ray + Serve in the foreground; Ctrl-C ends all of it.

    Examples:  python -m serve_app serve  ·  AIDOCS_SERVING__PORT=9000 python -m serve_app serve
    """
    try:
        local_serve.serve(read_settings(), application, lambda message: out.print(Text(message)))
    except PlatformError as error:
        fail(str(error))


@cli.command()
def start() -> None:
    """The same in the background; returns when it is ready. Does nothing if it already is.

    Example:  python -m serve_app start && curl -s http://127.0.0.1:8000/health/ready
    """
    settings = read_settings()
    log = settings.data_dir / "serve.log"
    process = None
    if local.owner(settings) is None:
        local.stop(settings)  # what a killed one left
        require_free_port(settings)
        with phase("preparing the embedding model (once per machine)"):
            prepare_model(settings)
        process = start_in_background(log)
    elif local.readiness_fault(settings) is None:
        out.print(Text(f"already running: {local.url(settings)}"))
        return
    with phase("starting Ray and Serve" if process else "waiting for the service that is starting"):
        wait_until_ready(settings, process, log)
    out.print(Text(f"running: {local.url(settings)}   (log: {log})"))


def require_free_port(settings: Settings) -> None:
    """At once, and not from the log of a start that has failed."""
    try:
        require_free(settings.serving.host, settings.serving.port)
    except PlatformError as error:
        fail(str(error))


@contextmanager
def phase(message: str) -> Iterator[None]:
    """Something that takes seconds: a spinner on a terminal, a line elsewhere."""
    if err.is_terminal:
        with err.status(message):
            yield
    else:
        err.print(message)
        yield


def start_in_background(log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "serve_app", "serve"],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip


def wait_until_ready(settings: Settings, process: subprocess.Popen[bytes] | None, log: Path) -> None:
    """process: the run that was started now, which is ended if it does not become ready; None: another's, which may
    only be slow."""
    deadline_s = time.monotonic() + local.START_TIMEOUT_S
    while (reason := not_ready(settings)) is not None:
        late = time.monotonic() > deadline_s
        if process and (late or process.poll() is not None):
            local.stop(settings)
            fail(f"it did not start; its log, {log}, ends:\n{log.read_text(errors='replace')[-2_000:]}")
        if late:
            fail(f"{local.url(settings)} is running and not ready ({reason}); `make stop` ends it")
        time.sleep(0.1)  # a poll, bounded by the deadline


def not_ready(settings: Settings) -> str | None:
    """None if this folder's own run is ready; another's may answer at its address."""
    return "it has ended" if local.owner(settings) is None else local.readiness_fault(settings)


def prepare_model(settings: Settings) -> None:
    from serve_app.embedding.cross_encoder import prepare_rerankers  # slow to import, and needed by this command only
    from serve_app.embedding.engine import prepare

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        prepare(settings.embedding, settings.data_dir)
        prepare_rerankers(settings)
    except PlatformError as error:
        fail(str(error))


@cli.command()
def stop() -> None:
    """End the run of this data folder (AIDOCS_DATA_DIR), and what a killed one left behind.

    If there is none, runs of other data folders are listed, with the command that ends each.
    """
    settings = read_settings()
    if local.stop(settings):
        out.print("stopped")
        return
    others = local.other_runs(settings)
    out.print(Text(f"nothing was running on {settings.data_dir}" if others else "nothing was running"))
    for each in others:
        found = f"running on {each.data_dir}: {each.url or 'a service'} (process {each.pid or 'unknown'})"
        out.print(Text(found), soft_wrap=True)
        command = f"AIDOCS_DATA_DIR={shlex.quote(str(each.data_dir))} {sys.executable} -m serve_app stop"
        out.print(Text(f"  to end it: {command}"), soft_wrap=True)


@cli.command()
def search(
    query: str,
    collection: Annotated[str, typer.Option(help="where to search")] = "demo",
    limit: Annotated[int, typer.Option(min=1, max=200)] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, dense or sparse")] = "hybrid",
    as_json: Annotated[bool, typer.Option("--json", help="the answer as it came")] = False,
) -> None:
    """Ask the running service.

    Example:  python -m serve_app search "read a parquet file in batches" --collection demo
    """
    settings = read_settings()
    body = json.dumps({"query": query, "limit": limit, "mode": mode}).encode()
    request = urllib.request.Request(
        f"{local.url(settings)}/v1/collections/{quote(collection, safe='')}/search",
        body,
        {"content-type": "application/json"},
    )
    try:
        with local.open_directly(request, settings.api.request_timeout_s) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        fail(local.detail(error))
    except OSError as error:
        fail(f"{local.url(settings)} does not answer ({error}); `make serve` starts it")
    if as_json:
        print(json.dumps(answer))
        return
    for hit in answer["hits"]:
        out.print(Text.assemble((f"{hit['score']:6.3f}  ", "cyan"), (hit["title"] or hit["document_id"], "bold")))
        out.print(Text("        " + " ".join(hit["text"].split())[:220], style="dim"))
    out.print(Text(f"{len(answer['hits'])} hits in {answer['took_ms']:.1f} ms ({answer['release']})"))
    page = urlencode({"collection": collection, "q": query})
    out.print(Text(f"the search page: {local.url(settings)}/?{page}"), soft_wrap=True)


if __name__ == "__main__":
    cli()
