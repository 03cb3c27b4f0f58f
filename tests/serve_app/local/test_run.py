"""Ending processes, and why a run is not ready: with real processes and a real server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

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


def test_who_listens_is_known_by_the_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not local.listens(psutil.Process(), port)
        listener.listen()
        assert local.listens(psutil.Process(), port)
