"""The command as people run it: in a process of its own, against a cluster that is there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.index.__main__ import cli, exit_code, result
from jobs.index.run import SMALL_SOURCE_BYTES
from jobs.pipeline.ledger import Report
from serve_app.deployments.store import connect_store
from serve_app.settings import Settings
from serve_app.types import Scope

FIELDS = [
    *("documents", "passages", "unchanged", "deleted", "failed", "seconds", "passages_per_s"),
    *("replaced", "embedded", "dry_run"),
]


ROOT = Path(__file__).parents[3]


def arguments(source: Path, collection: str, address: str) -> list[str]:
    return [
        *(sys.executable, "-m", "jobs.index"),
        *("--source", str(source), "--collection", collection, "--address", address),
    ]


def test_indexes_into_the_running_cluster(settings: Settings, ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# Good\n\nA readable page.")
    (tmp_path / "bad.pdf").write_bytes(b"no pdf")
    letters = tmp_path / "letters" / "failed.jsonl"
    done = subprocess.run(
        [*arguments(tmp_path, "command", ray_cluster), "--dead-letters", str(letters)],
        env={**os.environ, "AIDOCS_DATA_DIR": str(settings.data_dir)},
        capture_output=True, text=True, timeout=240, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result) == FIELDS
    assert [result[name] for name in FIELDS[:5]] == [1, 1, 0, 0, 1]
    assert json.loads(letters.read_text())["source"] == "bad.pdf"
    assert f"1 failed; what and why: {letters}" in done.stderr.replace("\n", "")
    assert asyncio.run(connect_store(settings).count(Scope("local", "command"))).documents == 1


@pytest.mark.parametrize(
    ("stop", "documents"), [(signal.SIGINT, 2_000), (signal.SIGINT, 3_000), (signal.SIGTERM, 3_000)]
)
def test_a_stopped_run_says_how_to_go_on(
    stop: signal.Signals, documents: int, settings: Settings, ray_cluster: str, tmp_path: Path
) -> None:
    """In the driver, and on Ray Data."""
    rows = [{"id": str(number), "text": "Pistons move up and down. " * 60} for number in range(documents)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert ((tmp_path / "rows.jsonl").stat().st_size > SMALL_SOURCE_BYTES) == (documents == 3_000)
    with subprocess.Popen(
        arguments(tmp_path, "interrupted", ray_cluster),
        env={**os.environ, "AIDOCS_DATA_DIR": str(settings.data_dir)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as job:  # fmt: skip
        try:
            assert job.stderr is not None
            assert any(line.startswith("Indexing interrupted: ") for line in job.stderr), "it ended at once"
            job.send_signal(stop)
            output, errors = job.communicate(timeout=60)
        finally:
            job.kill()
    assert job.returncode == 130, errors
    assert "interrupted; the same command goes on from here" in " ".join(errors.split())
    assert json.loads(output.splitlines()[-1])["documents"] < documents
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "none", "--collection", "c"], "none: no such file or folder"),
        (["--source", "x" * 300, "--collection", "c"], "File name too long"),
        (["--source", "b.py", "--collection", "c"], "unknown kind of file"),
        (["--source", "a.md", "--collection", "a/b"], "'a/b' is not a collection name"),
        (["--source", "a.md", "--collection", "c", "--dead-letters", "/dev/null/x"], "cannot be written"),
        (["--source", "a.md"], "Missing option '--collection'"),
        (["--source", "a.md", "--collection", "c", "--retry", "none.jsonl"], "none.jsonl: No such file"),
        (["--source", "a.md", "--collection", "c", "--retry", "a.md"], "a.md:1 is no dead letter"),
        (["--source", "a.md", "--collection", "c", "--retry", "a.md", "--prune"], "--prune needs the whole source"),
        (["--source", "*.md", "--collection", "c", "--prune"], "--prune needs a folder or a file"),
        (["--source", "a.md", "--collection", "c", "--retry", "letters"], "no dead letter is of this source"),
    ],
)
def test_wrong_use_says_what_to_do(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "b.py").write_text("code")
    (tmp_path / "letters").write_text('{"source": "x", "document_id": "", "error": "?", "input": "/elsewhere/x"}')
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_a_misspelt_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDOCS_DATADIR", str(tmp_path))
    done = CliRunner().invoke(cli, ["--source", str(tmp_path), "--collection", "c"])
    assert done.exit_code == 2
    assert "AIDOCS_DATADIR is not a setting" in done.stderr


def test_help_has_examples() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    assert "python -m jobs.index --source docs/ --collection handbook" in done.stdout


def test_exit_code_and_last_line() -> None:
    assert exit_code(Report()) == 0
    assert exit_code(Report(unchanged=1, failed=5)) == 0
    assert exit_code(Report(failed=5)) == 1
    total = Report(indexed=3, replaced=2, passages=12, embedded=5, unchanged=1, failed=2, deleted=7)
    last = result(total, 4.0, dry_run=True)
    assert list(last) == FIELDS
    assert list(last.values()) == [3, 12, 1, 7, 2, 4.0, 3.0, 2, 5, True]
