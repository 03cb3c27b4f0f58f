"""What HAProxy says by itself: with the real program, and a backend without a server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from unittest import mock

import httpx
import pytest

from serve_app.api.problems import RETRY_AFTER_S, to_problem
from serve_app.errors import Unavailable
from serve_app.local import haproxy
from serve_app.local.ports import free_port
from tests.integration.running import poll

CONFIGURATION = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    errorfile 503 {folder}/500.http
frontend all
    bind 127.0.0.1:{port}
    default_backend none
backend none
"""


def test_the_page_is_the_problem_that_the_api_gives() -> None:
    head, _, body = haproxy.error_page().partition(b"\r\n\r\n")
    assert json.loads(body) == to_problem(Unavailable(haproxy.PROBLEM["detail"])).as_json()
    assert f"content-length: {len(body)}".encode() in head and f"retry-after: {RETRY_AFTER_S}".encode() in head


def test_no_replica_is_503(tmp_path: Path) -> None:
    """Started as Serve starts it, which has written its own page by then."""
    folder, port = tmp_path / "serve's", free_port()
    folder.mkdir()
    (folder / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")
    (folder / "haproxy.cfg").write_text(CONFIGURATION.format(folder=str(folder).replace("'", r"\'"), port=port))
    with mock.patch.dict(os.environ):
        os.environ.pop(haproxy.BINARY, None)
        haproxy.answer_503(tmp_path)
        command = [os.environ[haproxy.BINARY], "-db", "-f", str(folder / "haproxy.cfg")]
    with subprocess.Popen(command) as process:
        try:
            answer = poll(lambda: asked(port), timeout_s=20)
        finally:
            process.kill()
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["detail"].startswith("no replica can answer")


def asked(port: int) -> httpx.Response | None:
    """None until it listens."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False)
    except httpx.ConnectError:
        return None


def test_without_haproxy_serve_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(haproxy.BINARY, str(tmp_path / "none"))
    haproxy.answer_503(tmp_path)
    assert os.environ[haproxy.BINARY] == str(tmp_path / "none") and [*tmp_path.iterdir()] == []
