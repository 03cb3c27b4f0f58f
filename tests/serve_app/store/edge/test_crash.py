"""Acknowledged writes survive `kill -9` at any time, and only one process can own the folder."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.errors import ConfigurationError, StoreLocked
from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.store.edge.crash_child import DOCUMENTS, SETTINGS, passages_in
from tests.serve_app.store.random_documents import SCOPE, passages_of, require_whole

ROOT = Path(__file__).parents[4]


class Child:
    """A process of crash_child.py and the lines that it has printed so far."""

    def __init__(self, folder: Path, first_version: int, mode: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.serve_app.store.edge.crash_child",
            str(folder),
            str(first_version),
            mode,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # else the kill came in the middle of it
                self.lines.append(line.strip())

    def wait_for(self, line: str, timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while line not in self.lines:
            assert self.process.poll() is None, f"the child ended with {self.process.returncode}"
            assert time.monotonic() < end, f"no {line!r} after {timeout_s} s"
            time.sleep(0.01)

    def kill(self) -> dict[str, int]:
        """The last acknowledged version of each document."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        written = (line.split() for line in self.lines if line.startswith("d"))
        return {id: int(version) for id, version in written}


@contextmanager
def child(folder: Path, first_version: int, mode: str) -> Iterator[Child]:
    started = Child(folder, first_version, mode)
    try:
        started.wait_for("open")
        yield started
    finally:
        started.kill()


async def require_acknowledged(folder: Path, acknowledged: dict[str, int]) -> None:
    """After a kill. One write was perhaps at work: its document is as before, as after, or without a fingerprint."""
    at_work = max(acknowledged.values()) + 1
    unsure = f"d{at_work % DOCUMENTS}"
    store = EdgeStore.open(folder, SETTINGS)
    try:
        sure = {id: version for id, version in acknowledged.items() if id != unsure}
        await require_whole(store, {id: (version, passages_in(version)) for id, version in sure.items()})
        fingerprint = (await store.fingerprints(SCOPE, [unsure])).get(unsure)
        if fingerprint is not None:
            version = int(fingerprint)
            assert version in (acknowledged.get(unsure), at_work)
            assert await passages_of(store, unsure) == [[f"{unsure} v{version}"] * passages_in(version)]
    finally:
        await store.close()


@pytest.mark.slow
async def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        first = max(acknowledged.values(), default=0) + 1
        with child(tmp_path, first, "write") as writer:
            writer.wait_for(f"d{(first + 11) % DOCUMENTS} {first + 11}")
            await asyncio.sleep(random.uniform(0, 0.7))  # the instant of the kill
            acknowledged |= writer.kill()
        await require_acknowledged(tmp_path, acknowledged)


@pytest.mark.slow
async def test_kill_9_while_optimising_loses_nothing(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for round in range(4):
        first = max(acknowledged.values(), default=0) + 1
        with child(tmp_path, first, "optimize") as writer:
            if round == 0:
                writer.wait_for("optimised")  # so that there was a switch
            writer.wait_for(f"d{(first + 11) % DOCUMENTS} {first + 11}")
            await asyncio.sleep(random.uniform(0, 1.5))
            acknowledged |= writer.kill()
        await require_no_process(str(tmp_path))
        await require_acknowledged(tmp_path, acknowledged)
        assert leftovers(tmp_path) == []


def leftovers(folder: Path) -> list[Path]:
    """Generations that do not count."""
    return [path for path in folder.glob("store/*/*/*/") if (path.parent / "CURRENT").read_text().strip() != path.name]


async def require_no_process(argument: str, timeout_s: float = 20) -> None:
    """The optimiser ends with its owner."""
    end = time.monotonic() + timeout_s
    while any(argument in line for line in command_lines()):
        assert time.monotonic() < end, f"a process with {argument} is still there"
        await asyncio.sleep(0.05)


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with child(tmp_path, 1, "hold") as owner:
        with pytest.raises(StoreLocked, match=f"process {owner.process.pid}.*AIDOCS_DATA_DIR"):
            EdgeStore.open(tmp_path, StoreSettings())
        os.kill(owner.process.pid, signal.SIGSTOP)  # a lock is not a matter of answering
        with pytest.raises(StoreLocked):
            EdgeStore.open(tmp_path, StoreSettings())
        os.kill(owner.process.pid, signal.SIGCONT)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(tmp_path, StoreSettings())
    yield store
    await store.close()


async def test_the_folder_is_free_after_close(tmp_path: Path, opened: EdgeStore) -> None:
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        EdgeStore.open(tmp_path, StoreSettings())
    await opened.close()
    await EdgeStore.open(tmp_path, StoreSettings()).close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="AIDOCS_DATA_DIR"):
        EdgeStore.open(tmp_path / "file", StoreSettings())
