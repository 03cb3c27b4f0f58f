"""The three ways of use, one after another from a bare copy of the repository, as they are typed: `serve run`, `ray job
submit`, a client. None of Ray's variables is set, but its address where another Ray runs on this machine.

The commands have fixed ports, so this runs before tests/integration and tests/jobs, whose Ray would have them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cache.tiers.shared_folder import in_shared_memory
from serve_app.deployments.environment import is_ray_running
from serve_app.local.ports import is_free
from serve_app.local.run import KEEP_MARK, RUN_MARK
from tests.integration.running import bearing, http, is_ready, poll, statuses_of
from tests.services import missing

pytestmark = pytest.mark.slow

URL = "http://127.0.0.1:8000"
PORTS = {8000: "Serve", 8265: "Ray's dashboard", 52365: "Ray's job agent"}  # each fixed, or the default of a command
REPOSITORY = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent


@pytest.fixture
def mark() -> Iterator[str]:
    """In the environment of all that is started here; whatever bears it at the end is ended."""
    mark = uuid.uuid4().hex
    yield mark
    for process in bearing(mark):
        process.kill()


@pytest.fixture
def home(tmp_path: Path, model_data_dir: Path) -> Iterator[Path]:
    """The user's, with the converted model where it is by default."""
    data_dir = tmp_path / "home" / ".local" / "share" / "ai-docs"
    data_dir.mkdir(parents=True)
    (data_dir / "models").symlink_to(model_data_dir / "models")
    yield tmp_path / "home"
    if shared := in_shared_memory(data_dir):
        shutil.rmtree(shared, ignore_errors=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    clone = tmp_path / "ai-docs"
    for package in ("jobs", "serve_app"):
        shutil.copytree(REPOSITORY / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "docs").mkdir()
    (clone / "docs" / "leave.md").write_text("# Leave\n\nEmployees have 25 days of holiday.")
    return clone


def user_environ(home: Path, clone: Path, mark: str) -> dict[str, str]:
    """In the project's environment. PYTHONPATH says what its editable installation says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AIDOCS_"))}
    path = os.pathsep.join([str(COMMANDS), os.environ["PATH"]])
    return kept | {"HOME": str(home), "PATH": path, "PYTHONPATH": str(clone), RUN_MARK: mark, **KEEP_MARK}


def submitted(clone: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str] | None:
    """None while the cluster is so young that its agent for jobs has not started."""
    job = ["python", "-m", "jobs.index", "--source", "docs", "--collection", "handbook"]
    done = subprocess.run(
        [COMMANDS / "ray", "job", "submit", "--working-dir", ".", "--", *job],
        env=environ, cwd=clone, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return None if "No available agent" in done.stderr else done


def test_serve_run_then_a_job_then_a_client(home: Path, clone: Path, mark: str, tmp_path: Path) -> None:
    for port, owner in PORTS.items():
        if not is_free("", port):
            missing(f"port {port} of {owner} (another program on this machine has it)")
    others = is_ray_running()
    environ, log = user_environ(home, clone, mark), tmp_path / "log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            [COMMANDS / "serve", "run", "serve_app.main:app"],
            env=environ | ({"RAY_ADDRESS": "local"} if others else {}), cwd=clone, stdout=sink, stderr=sink,
        ) as service,
    ):  # fmt: skip
        try:
            with statuses_of(f"{URL}/health/ready") as statuses:
                poll(lambda: service.poll() is not None or is_ready(URL), timeout_s=120)
            assert service.poll() is None, log.read_text()
            assert statuses <= {200, 404, 503}, "404: Serve's own, before it knows the application"

            address = {"RAY_ADDRESS": "http://127.0.0.1:8265"} if others else {}
            job = poll(lambda: submitted(clone, environ | address), timeout_s=90, pause_s=1)
            assert job.returncode == 0, job.stdout + job.stderr
            (result,) = [json.loads(line) for line in job.stdout.splitlines() if line.startswith('{"documents"')]
            assert (result["documents"], result["failed"]) == (1, 0)

            answer = http("POST", f"{URL}/v1/collections/handbook/search", {"query": "how many vacation days?"})
            assert [hit["document_id"] for hit in answer[1]["hits"]] == ["leave.md"], answer
            assert not (home / ".ray").exists(), "Ray has left a token there, which `ray start` would ask for"
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(60)
    poll(lambda: not bearing(mark), timeout_s=30)
