"""`python -m jobs.submit`: run a job of ours on a Ray cluster, and end as it ends."""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from ray.job_submission import JobStatus, JobSubmissionClient
from rich.console import Console
from rich.text import Text

from serve_app.errors import ConfigurationError
from serve_app.local.run import owner_of, read_run
from serve_app.settings import load_settings

FAILED, USAGE, INTERRUPTED = 1, 2, 130
POLL_PERIOD_S = 0.5
SUBMISSION_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 60  # Ray's own is 3 s: too short to end a pipeline and to say how far it is

EXAMPLES = """\b
Examples:
  python -m jobs.submit -- python -m jobs.index --source /data --collection handbook
  python -m jobs.submit --address http://head:8265 --working-dir . --env AIDOCS_STORE__URL=http://qdrant:6333 \\
      -- python -m jobs.index --source /data --collection handbook --prune

What `ray job submit` does, for scripts: the job's log goes to stderr as it is written, and the last line of stdout is
the job's own, JSON. The exit code is the job's own, too: 0 done, 1 failed, 2 wrong use, 130 interrupted. Ctrl-C stops
the job and waits for its end. `ray job list`, `ray job logs ID` and `ray job stop ID` work from anywhere."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


@cli.command(epilog=EXAMPLES)
def submit(
    *,
    command: Annotated[list[str], typer.Argument(help="The job's command line, after `--`.")],
    address: Annotated[
        str | None,
        typer.Option(help="Of the cluster's dashboard.", show_default="of the service here, or of any Ray here"),
    ] = None,
    working_dir: Annotated[Path | None, typer.Option(help="Sent to the cluster, where the job runs in it.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the job, may be repeated.")] = None,
) -> None:
    """Submit a job, follow it to its end, and hand back its result."""
    if wrong := [each for each in env or () if "=" not in each]:
        errors.print(Text(f"error: --env takes NAME=VALUE, not {wrong[0]}"))
        raise typer.Exit(USAGE)
    environ = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_TIMEOUT_S)} | dict(each.split("=", 1) for each in env or ())
    runtime_env = {"env_vars": environ} | ({"working_dir": str(working_dir)} if working_dir else {})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = JobSubmissionClient(address or dashboard_of_service())
        job_id = f"raysubmit_{secrets.token_hex(8)}"  # known before it can be interrupted
        code = run(client, job_id, shlex.join(command), runtime_env)
        result = last_result(client.get_job_logs(job_id))
    except KeyboardInterrupt:
        errors.print("interrupted; `ray job list` shows whether a job goes on")
        raise typer.Exit(INTERRUPTED) from None
    except (ConfigurationError, OSError, RuntimeError, ValueError) as error:  # the last three are Ray's client's
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE if isinstance(error, ConfigurationError) else FAILED) from error
    if result:
        print(result, flush=True)
    else:
        errors.print(f"{job_id} has left no result: no line of its log is a JSON object")
    raise typer.Exit(code)


def dashboard_of_service() -> str | None:
    """Of the `python -m serve_app serve` that owns the data folder, if it runs."""
    record = read_run(load_settings())
    return record.get("dashboard") if record and owner_of(record) else None


def run(client: JobSubmissionClient, job_id: str, entrypoint: str, runtime_env: dict[str, Any]) -> int:
    """Its log to stderr until it ends, or Ctrl-C ends it, however early that comes. The exit code. Raises
    KeyboardInterrupt if there was nothing to stop."""
    log = Log(client, job_id)
    try:
        client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env)
        errors.print(Text(f"{job_id} is submitted"))
        asyncio.run(log.follow())
        status = wait(client, job_id)
    except KeyboardInterrupt:
        errors.print(Text(f"stopping {job_id}"))
        stop(client, job_id)
        asyncio.run(log.follow())
        status = wait(client, job_id)
    info = client.get_job_info(job_id)
    errors.print(Text(f"{job_id}: {status} {info.message or ''}"))
    return exit_code(status, info.driver_exit_code)


class Log:
    """Of a job, on stderr. Followed again, it goes on where it was."""

    def __init__(self, client: JobSubmissionClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._shown = 0  # characters

    async def follow(self) -> None:
        """Until the job ends, or the connection does."""
        begin = 0
        try:
            async for lines in self._client.tail_job_logs(self._job_id):  # from the first one
                errors.print(Text(lines[max(0, self._shown - begin) :]), end="", soft_wrap=True)
                begin += len(lines)
                self._shown = max(self._shown, begin)
        except Exception as error:  # aiohttp's, or Ray's own
            errors.print(Text(f"the log cannot be followed any more, the end is waited for: {error}"))


def stop(client: JobSubmissionClient, job_id: str) -> None:
    """Raises KeyboardInterrupt if the cluster does not know it, even after the time that it may take to get there."""
    deadline_s = time.monotonic() + SUBMISSION_TIMEOUT_S
    while True:
        try:
            client.stop_job(job_id)
            return
        except RuntimeError as error:
            if time.monotonic() > deadline_s:
                raise KeyboardInterrupt from error
            time.sleep(POLL_PERIOD_S)


def wait(client: JobSubmissionClient, job_id: str) -> JobStatus:
    """Blocks until it has ended."""
    while not (status := client.get_job_status(job_id)).is_terminal():
        time.sleep(POLL_PERIOD_S)
    return status


def exit_code(status: JobStatus, driver_exit_code: int | None) -> int:
    """The job's own; 1 if it failed without, before it began or with its node."""
    if status == JobStatus.STOPPED:
        return INTERRUPTED
    return driver_exit_code or (0 if status == JobStatus.SUCCEEDED else FAILED)


def last_result(log: str) -> str:
    """The last line that is a JSON object; "" if there is none."""
    for line in reversed(log.splitlines()):
        try:
            if isinstance(json.loads(line), dict):
                return line
        except ValueError:
            continue
    return ""


if __name__ == "__main__":
    cli()
