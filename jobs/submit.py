"""`python -m jobs.submit`: run a job on a Ray cluster and exit with its result and exit code."""

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
STOP_TIMEOUT_S = 60  # Ray's default of 3 s is too short for a pipeline to stop and report its progress

EXAMPLES = """\b
Examples:
  python -m jobs.submit -- python -m jobs.index --source /data --collection handbook
  python -m jobs.submit --address http://head:8265 --working-dir . --env AIDOCS_STORE__URL=http://qdrant:6333 \\
      -- python -m jobs.index --source /data --collection handbook --prune

Like `ray job submit`, but for scripts. The job's log is streamed to stderr, and the job's result, a JSON object, is
printed to stdout. The exit code is that of the job: 0 done, 1 failed, 2 usage error, 130 interrupted. Ctrl-C stops the
job and waits until it has ended. `ray job list`, `ray job logs ID` and `ray job stop ID` work with these jobs too."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
errors = Console(stderr=True, highlight=False)


@cli.command(epilog=EXAMPLES)
def submit(
    *,
    command: Annotated[list[str], typer.Argument(help="The job's command line, after `--`.")],
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the cluster's dashboard.",
            show_default="the local service, else any local Ray cluster",
        ),
    ] = None,
    working_dir: Annotated[Path | None, typer.Option(help="Folder to upload; the job runs in it.")] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="Environment variable of the job, NAME=VALUE. Can be repeated.")
    ] = None,
) -> None:
    """Submit a job, follow its log until it ends, and print its result."""
    if wrong := [each for each in env or () if "=" not in each]:
        errors.print(Text(f"error: --env takes NAME=VALUE, not {wrong[0]}"))
        raise typer.Exit(USAGE)
    environ = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_TIMEOUT_S)} | dict(each.split("=", 1) for each in env or ())
    runtime_env = {"env_vars": environ} | ({"working_dir": str(working_dir)} if working_dir else {})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = JobSubmissionClient(address or dashboard_of_service())
        job_id = f"raysubmit_{secrets.token_hex(8)}"  # chosen here, so that Ctrl-C can stop the job at any time
        code = run(client, job_id, shlex.join(command), runtime_env)
        result = last_result(client.get_job_logs(job_id))
    except KeyboardInterrupt:
        errors.print("interrupted; run `ray job list` to see whether the job is still running")
        raise typer.Exit(INTERRUPTED) from None
    except (ConfigurationError, OSError, RuntimeError, ValueError) as error:  # Ray's client raises the last three
        errors.print(Text(f"error: {error}"))
        raise typer.Exit(USAGE if isinstance(error, ConfigurationError) else FAILED) from error
    if result:
        print(result, flush=True)
    else:
        errors.print(f"{job_id} printed no result: no line of its log is a JSON object")
    raise typer.Exit(code)


def dashboard_of_service() -> str | None:
    """Address of the dashboard of the running `python -m serve_app serve` that owns the data folder, or None."""
    record = read_run(load_settings())
    return record.get("dashboard") if record and owner_of(record) else None


def run(client: JobSubmissionClient, job_id: str, entrypoint: str, runtime_env: dict[str, Any]) -> int:
    """Run the job, print its log to stderr and return its exit code. Ctrl-C stops the job, even while it is being
    submitted. Raises KeyboardInterrupt if the cluster never received the job."""
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
    """Prints the log of a job to stderr. A second `follow` continues where the first one stopped."""

    def __init__(self, client: JobSubmissionClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._shown = 0  # characters

    async def follow(self) -> None:
        """Returns when the job ends or the connection breaks."""
        begin = 0
        try:
            async for lines in self._client.tail_job_logs(self._job_id):  # starts at the first line
                errors.print(Text(lines[max(0, self._shown - begin) :]), end="", soft_wrap=True)
                begin += len(lines)
                self._shown = max(self._shown, begin)
        except Exception as error:  # raised by aiohttp or Ray
            errors.print(Text(f"lost the log; waiting for the job to end: {error}"))


def stop(client: JobSubmissionClient, job_id: str) -> None:
    """Raises KeyboardInterrupt if the cluster does not know the job within SUBMISSION_TIMEOUT_S."""
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
    """Blocks until the job has ended."""
    while not (status := client.get_job_status(job_id)).is_terminal():
        time.sleep(POLL_PERIOD_S)
    return status


def exit_code(status: JobStatus, driver_exit_code: int | None) -> int:
    """The job's exit code; 1 if it failed without one, because it never started or its node died."""
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
