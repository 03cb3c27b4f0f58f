from __future__ import annotations

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from jobs.submit import cli, exit_code, last_result


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),  # it never began
        (JobStatus.FAILED, 0, 1),
        (JobStatus.STOPPED, None, 130),
        (JobStatus.STOPPED, 130, 130),
    ],
)
def test_the_exit_code_is_the_jobs_own(status: JobStatus, driver_exit_code: int | None, expected: int) -> None:
    assert exit_code(status, driver_exit_code) == expected


def test_the_result_is_the_last_json_object_of_the_log() -> None:
    log = 'started\n{"documents": 1}\n{"documents": 2}\n2026-01-01 INFO ended\n3\n'
    assert last_result(log) == '{"documents": 2}'
    assert last_result("error: none") == last_result("") == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--env", "NAME", "--", "python"], 2, "--env takes NAME=VALUE, not NAME"),
        (["--address", "http://127.0.0.1:1", "--", "python"], 1, "http://127.0.0.1:1"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_submitted_is_told(arguments: list[str], code: int, message: str) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_help_has_examples() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    assert "python -m jobs.submit -- python -m jobs.index" in done.stdout
