"""The command on a running Ray cluster."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from jobs.export.__main__ import cli, export_file
from serve_app.deployments.store import connect_store
from serve_app.errors import Unavailable
from serve_app.settings import Settings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Scope
from tests.contracts.corpus import SPACE, document
from tests.jobs.contents import contents, require_equal

ROOT = Path(__file__).parents[3]
DOCUMENTS = [document(f"d{n}", *[f"word{n} part{part}" for part in range(n % 5)]) for n in range(150)]


def export(settings: Settings, *arguments: str) -> Result:
    """In this process, which is connected to the cluster."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AIDOCS_DATA_DIR", str(settings.data_dir))
        return CliRunner().invoke(cli, arguments)


def export_process(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.export", *arguments],
        env={**os.environ, "AIDOCS_DATA_DIR": str(settings.data_dir)},
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl.gz"])
def test_there_and_back(suffix: str, settings: Settings, ray_cluster: str, tmp_path: Path) -> None:
    name = f"export-{suffix.replace('.', '')}"
    original, copy, path = Scope("local", name), Scope("local", f"{name}-copy"), tmp_path / f"a{suffix}"
    asyncio.run(connect_store(settings).write(original, SPACE, DOCUMENTS))
    there = export_process(settings, "--collection", name, "--to", str(path), "--address", ray_cluster)
    assert there.returncode == 0, there.stderr
    result = json.loads(there.stdout.splitlines()[-1])
    assert [result[key] for key in ("documents", "passages", "skipped")] == [150, 300, 0]
    for expected in ([150, 0], [0, 150]):
        done = export(settings, "--collection", copy.collection, "--from", str(path))
        assert done.exit_code == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert [result["documents"], result["unchanged"]] == expected
    require_equal(*(asyncio.run(contents(scope, settings)) for scope in (original, copy)))


@pytest.mark.usefixtures("ray_cluster")
def test_what_cannot_be(settings: Settings, tmp_path: Path) -> None:
    absent = export(settings, "--collection", "nowhere", "--to", str(tmp_path / "a.jsonl"))
    assert absent.exit_code == 1
    assert "there is no collection 'nowhere'" in absent.stderr
    assert list(tmp_path.iterdir()) == []


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def no_room_after(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond it: the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz"])
async def test_without_room_the_file_is_as_it_was(suffix: str, tmp_path: Path) -> None:
    store, scope, path = EdgeStore.open(tmp_path, StoreSettings()), Scope("local", "room"), tmp_path / f"a{suffix}"
    await store.write(scope, SPACE, [document("d", *(os.urandom(1_000).hex() for _ in range(100)))])
    path.write_text("before")
    with no_room_after(20_000), pytest.raises(Unavailable, match=r"a\..* could not be written and is unchanged"):
        await export_file(scope, path, store, lambda *_: None)
    assert path.read_text() == "before"
    assert names(tmp_path) == {path.name, "store"}  # nothing begun is left
    await export_file(scope, path, store, lambda *_: None)
    assert path.stat().st_size > 20_000
    await store.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one file: --to FILE exports to it"),
        (["--to", "a.jsonl", "--from", "b.jsonl"], "give one file"),
        (["--to", "a.csv"], "must end in one of .parquet, .jsonl, .jsonl.gz"),
        (["--to", "none/a.jsonl"], "there is no folder none"),
        (["--to", "folder.parquet"], "folder.parquet is a folder"),
    ],
)
def test_wrong_use_says_what_to_do(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.parquet").mkdir()
    done = CliRunner().invoke(cli, ["--collection", "c", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
