"""Indexing into the service that runs: as a command, as a Ray job, and while its parts are killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.integration.running import Run, http, poll
from tests.services import missing

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = 480
JOB_AGENT_PORT = 52365


def result_in(output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith('{"documents"')]
    assert lines, output
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def stored(service: Run, collection: str) -> int:
    """0 as well while nobody answers."""
    try:
        _, answer = http("GET", f"{service.url}/v1/collections", timeout_s=5)
    except OSError:
        return 0
    return sum(each["documents"] for each in answer.get("collections", []) if each["name"] == collection)


def search(service: Run, collection: str, query: str) -> list[str]:
    body = {"query": query, "mode": "sparse", "limit": 3}
    status, answer = http("POST", f"{service.url}/v1/collections/{collection}/search", body)
    assert status == 200, answer
    return [hit["document_id"] for hit in answer["hits"]]


def submitted(service: Run, code: Path, entrypoint: list[str]) -> subprocess.CompletedProcess[str] | None:
    """None while the cluster is so young that its agent for jobs has not started."""
    ray = Path(sys.executable).parent / "ray"
    done = subprocess.run(
        [ray, "job", "submit", "--address", service.record()["dashboard"], "--working-dir", code, "--", *entrypoint],
        env=service.environ, capture_output=True, text=True, timeout=240, check=False, cwd=code,
    )  # fmt: skip
    return None if "No available agent" in done.stderr else done


def require_job_agent(service: Run) -> None:
    """Ray's agent for jobs has one fixed port, so that of several clusters on a machine only the first has one."""
    own = {process.pid for process in service.all_processes()}
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == JOB_AGENT_PORT
        if listens and connection.pid not in own:
            missing(f"port {JOB_AGENT_PORT} of Ray's job agent (another Ray on this machine has it)")


def test_the_command_finds_the_running_service(service: Run, tmp_path: Path) -> None:
    (tmp_path / "leave.md").write_text("# Leave\n\nEveryone has thirty vacation days.")
    done = service.command("jobs.index", "--source", str(tmp_path), "--collection", "files")
    assert done.returncode == 0, done.stderr
    assert result_in(done.stdout)["documents"] == 1
    assert search(service, "files", "vacation") == ["leave.md"]


def test_as_a_ray_job(service: Run, tmp_path: Path) -> None:
    """With a working folder that Ray sends to the cluster, as README has it: `python` is the service's own."""
    require_job_agent(service)
    code, documents = tmp_path / "code", tmp_path / "documents"
    for package in ("jobs", "serve_app"):
        shutil.copytree(REPOSITORY / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    documents.mkdir()
    (documents / "sick.md").write_text("# Sickness\n\nCall before nine.")
    entrypoint = ["python", "-m", "jobs.index", "--source", str(documents), "--collection", "submitted"]
    done = poll(lambda: submitted(service, code, entrypoint), timeout_s=90, pause_s=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result_in(done.stdout)["documents"] == 1
    assert search(service, "submitted", "sickness") == ["sick.md"]


def test_killed_parts_lose_no_document(service: Run, tmp_path: Path) -> None:
    """The store's process dies twice and the gateway once while documents are on their way."""
    rows = [
        {"id": f"d{n}", "text": f"Document marker{n} tells of engines. " + "They turn and turn. " * 50}
        for n in range(DOCUMENTS)
    ]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--source", str(corpus), "--collection", "corpus", "--block-tokens", "1024"]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.index", *arguments],
        env=service.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as job:  # fmt: skip
        try:
            # The gateway last: the job goes on without it, and nobody else tells how far that is.
            for victim, after in (
                ("ray::StoreActor", 1),
                ("ray::StoreActor", DOCUMENTS // 8),
                ("ray::ServeReplica", 0),
            ):
                poll(lambda after=after: stored(service, "corpus") >= after, timeout_s=120)
                for process in service.processes(victim):
                    process.kill()
            assert job.poll() is None, "all was over before the last kill: nothing was tested"
            output, errors = job.communicate(timeout=240)
        finally:
            job.kill()
    assert job.returncode == 0, errors
    result = result_in(output)
    assert (result["documents"], result["failed"]) == (DOCUMENTS, 0)
    poll(lambda: stored(service, "corpus") == DOCUMENTS, timeout_s=60)  # once the gateway is back
    assert all(search(service, "corpus", f"marker{n}") == [f"d{n}"] for n in range(0, DOCUMENTS, 7))
