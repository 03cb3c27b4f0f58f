"""`python -m jobs.submit` runs a job through Ray's job API and returns its status, log and result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.submit import run
from tests.integration.running import poll

ROOT = Path(__file__).parents[2]
DOCUMENTS = 3_000


@dataclass(frozen=True)
class JobCluster:
    dashboard: str
    client: JobSubmissionClient
    environ: dict[str, str]

    def start(self, *job: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.submit", "--address", self.dashboard, "--", sys.executable, *job],
            env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def run(self, *job: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with self.start(*job) as process:
            output, errors = process.communicate(timeout=180)
            return process.returncode, output, errors

    def stop(self, sign: str, *job: str) -> tuple[int, str, str]:
        """Ctrl-C once a line of stderr has the sign."""
        with self.start(*job) as process:
            try:
                assert process.stderr is not None
                assert any(sign in line for line in process.stderr), "it ended at once"
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=90)
                return process.returncode, output, errors
            finally:
                process.kill()


def index(source: Path, collection: str) -> list[str]:
    return ["-m", "jobs.index", "--source", str(source), "--collection", collection]


@pytest.fixture(scope="module")
def job_cluster(model_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobCluster]:
    data_dir = tmp_path_factory.mktemp("job-cluster")
    (data_dir / "models").symlink_to(model_data_dir / "models")
    environ = {**os.environ, "AIDOCS_DATA_DIR": str(data_dir)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.job_cluster_child"],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as child:  # fmt: skip
        try:
            assert child.stdin is not None and child.stdout is not None
            dashboard = child.stdout.readline().strip()
            client = JobSubmissionClient(dashboard)

            def takes_jobs() -> bool:
                """Its agent for them starts last."""
                try:
                    return bool(client.submit_job(entrypoint="true"))
                except RuntimeError as error:
                    assert "No available agent" in str(error)
                    return False

            poll(takes_jobs, timeout_s=90, pause_s=1)
            yield JobCluster(dashboard, client, environ)
            child.stdin.close()
            child.wait(60)
        finally:
            child.terminate()


def test_the_result_is_handed_back(job_cluster: JobCluster, tmp_path: Path) -> None:
    (tmp_path / "overtime.md").write_text("# Overtime\n\nIt is paid twice.")
    code, output, errors = job_cluster.run(*index(tmp_path, "as-a-job"))
    assert code == 0, errors
    result = json.loads(output)
    assert (result["documents"], result["failed"]) == (1, 0)
    assert "Indexing as-a-job: 1 documents" in errors
    newest = max(job_cluster.client.list_jobs(), key=lambda job: job.start_time or 0)
    assert newest.status == JobStatus.SUCCEEDED and str(newest.submission_id) in errors


def test_a_job_that_fails_is_told(job_cluster: JobCluster, tmp_path: Path) -> None:
    code, output, errors = job_cluster.run(*index(tmp_path / "none", "failing"))
    assert (code, output) == (2, ""), errors
    assert "no such file" in " ".join(errors.split()) and str(JobStatus.FAILED) in errors
    assert "printed no result" in errors


def test_a_job_that_fails_can_have_a_result(job_cluster: JobCluster) -> None:
    code, output, errors = job_cluster.run("-c", """print('{"failed": 1}'); raise SystemExit(1)""")
    assert (code, output) == (1, '{"failed": 1}\n'), errors
    assert str(JobStatus.FAILED) in errors


def test_ctrl_c_stops_the_job_which_says_how_far_it_is(job_cluster: JobCluster, tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": "Pistons move up and down. " * 60} for number in range(DOCUMENTS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, output, errors = job_cluster.stop("Indexing stopped: ", *index(tmp_path, "stopped"))
    assert code == 130, errors
    assert str(JobStatus.STOPPED) in errors
    assert output, errors
    assert json.loads(output)["documents"] < DOCUMENTS
    assert errors.count("the same command goes on from here") == errors.count(output) == 1
    assert "is submitted" not in errors and "Running entrypoint" not in errors, "what was shown before is not again"


def test_ctrl_c_before_the_job_has_begun(job_cluster: JobCluster, tmp_path: Path) -> None:
    code, output, errors = job_cluster.stop(" is submitted", *index(tmp_path, "stopped-at-once"))
    assert code == 130, errors
    assert str(JobStatus.STOPPED) in errors
    assert output or "printed no result" in errors
    assert all(each.status.is_terminal() for each in job_cluster.client.list_jobs())


def test_ctrl_c_while_the_cluster_takes_the_job(job_cluster: JobCluster) -> None:
    """The job used to go on, and nothing was said of it."""

    class Interrupted(JobSubmissionClient):
        def submit_job(self, **job: Any) -> str:
            if delay_s is not None:
                threading.Timer(delay_s, super().submit_job, kwargs=job).start()
            raise KeyboardInterrupt

    for delay_s in (0.0, 1.0):
        job_id = f"raysubmit_interrupted_{delay_s}"
        assert run(Interrupted(job_cluster.dashboard), job_id, "sleep 600", {}) == 130
        assert job_cluster.client.get_job_status(job_id) == JobStatus.STOPPED
    delay_s = None
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(job_cluster.dashboard), "raysubmit_never", "sleep 600", {})
