"""Ending processes, and why a run is not ready: with real processes and a real server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from serve_app.__main__ import cli
from serve_app.errors import StoreLocked
from serve_app.local import run as local
from serve_app.local.ports import free_port
from serve_app.local.serve import require_own_store
from serve_app.settings import Settings
from serve_app.store.edge import folders as edge_folders

DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); sys.stdin.read()"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.strip("/"))
        body = json.dumps({"detail": "store: the reason"}).encode() if status == 503 else b"a page"
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_fault_is_told_in_the_services_own_words(server: str) -> None:
    assert local.fault(f"{server}/200") is None
    assert local.fault(f"{server}/503") == "store: the reason"
    assert "502" in str(local.fault(f"{server}/502"))
    assert local.fault(f"http://127.0.0.1:{free_port()}/") is not None


def test_processes_end_though_one_ends_by_itself_and_one_does_not_listen() -> None:
    ended = psutil.Popen([sys.executable, "-c", ""])
    ended.wait()
    with subprocess.Popen([sys.executable, "-c", DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"deaf\n"
        local.end_processes([ended, psutil.Process(deaf.pid)], timeout_s=0.2)
        assert not psutil.pid_exists(deaf.pid)


def test_a_store_that_another_process_has_is_told_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    require_own_store(settings)
    with edge_folders.lock(tmp_path / edge_folders.FOLDER), pytest.raises(StoreLocked, match="AIDOCS_DATA_DIR"):
        require_own_store(settings)
    require_own_store(settings)


def test_a_run_without_the_proxy_that_was_asked_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here has the run's mark, least of all HAProxy. A real start has it: tests/integration."""
    settings = Settings(data_dir=tmp_path)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    assert local.proxy_fault(settings) is None  # there is no run
    local.note_run(settings, "a-mark-that-nobody-has")
    assert "RAY_SERVE_ENABLE_HA_PROXY=0" in str(local.proxy_fault(settings))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    assert local.proxy_fault(settings) is None


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[Settings, subprocess.Popen[bytes]]]:
    """A run of another data folder, as far as others see it: its record, and a process that bears its mark."""
    settings = Settings(data_dir=tmp_path / "another folder")
    settings.data_dir.mkdir()
    environ = os.environ | {local.RUN_MARK: "a-mark", local.RUN_FOLDER: str(settings.data_dir)}
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, env=environ)
    try:
        yield settings, child
    finally:
        child.kill()
        child.communicate()


def test_a_run_of_another_folder_is_found(elsewhere: tuple[Settings, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    settings, _child = elsewhere
    own = Settings(data_dir=tmp_path)
    unknown = local.OtherRun(settings.data_dir, url=None, pid=None)
    assert unknown in local.other_runs(own), "also without its record"
    local.note_run(settings, "a-mark")
    known = local.OtherRun(settings.data_dir, "http://127.0.0.1:8000", os.getpid())
    assert known in local.other_runs(own)
    assert settings.data_dir not in [each.data_dir for each in local.other_runs(settings)]


def test_stop_names_a_run_of_another_folder_and_leaves_it(
    elsewhere: tuple[Settings, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, child = elsewhere
    local.note_run(settings, "a-mark")
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(tmp_path / "own"))
    done = CliRunner().invoke(cli, ["stop"])
    assert done.exit_code == 0 and child.poll() is None
    assert "nothing was running on" in done.stdout and f"(process {os.getpid()})" in done.stdout
    assert f"AIDOCS_DATA_DIR='{settings.data_dir}' " in done.stdout


def test_a_start_on_a_taken_port_says_so_at_once(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AIDOCS_SERVING__PORT", server.rpartition(":")[2])
    done = CliRunner().invoke(cli, ["start"])
    assert done.exit_code == 1
    assert "is in use" in done.stderr and "make stop" in done.stderr


def test_stop_ends_what_is_left_of_a_run_without_a_record(elsewhere: tuple[Settings, subprocess.Popen[bytes]]) -> None:
    settings, child = elsewhere
    assert local.stop(settings)
    assert not psutil.pid_exists(child.pid)
    assert not local.stop(settings)


def test_who_listens_is_known_by_the_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not local.listens(psutil.Process(), port)
        listener.listen()
        assert local.listens(psutil.Process(), port)
