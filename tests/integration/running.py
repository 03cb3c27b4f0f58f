"""A real run of the service in its own processes, and plain HTTP to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from serve_app.local.ports import free_port
from serve_app.local.run import marked, owner_of

T = TypeVar("T")
DRAIN_S = 3  # of a replica that is replaced: Ray's 30 would make tests slow and prove less


def poll(question: Callable[[], T], *, timeout_s: float, pause_s: float = 0.05) -> T:
    """The first truthy answer; fails after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s"
        time.sleep(pause_s)
    return answer


def http(method: str, url: str, body: object = None, timeout_s: float = 60) -> tuple[int, Any]:
    """Status and JSON, for errors as well."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def is_ready(url: str) -> bool:
    try:
        return http("GET", f"{url}/health/ready")[0] == 200
    except (OSError, ValueError):  # no answer, or a proxy's page
        return False


@dataclass(frozen=True)
class Run:
    """One `python -m serve_app start`."""

    url: str
    environ: dict[str, str]
    data_dir: Path
    start_statuses: frozenset[int] = frozenset()  # of /health/ready, asked all the time while it started

    def command(self, *arguments: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.environ, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return record

    def processes(self, title: str) -> list[psutil.Process]:
        """Of this run, by what their command line contains."""
        return [p for p in self.all_processes() if title in " ".join(command_line(p))]

    def all_processes(self) -> list[psutil.Process]:
        return bearing(self.record()["mark"])


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def bearing(mark: str) -> list[psutil.Process]:
    return [process for process in marked(mark) if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


@contextmanager
def statuses_of(url: str) -> Iterator[set[int]]:
    """What it answered until the end of the context, asked every few milliseconds."""
    statuses: set[int] = set()
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.02):
            with suppress(httpx.TransportError):  # nobody listens yet
                statuses.add(httpx.get(url, timeout=10, trust_env=False).status_code)

    thread = threading.Thread(target=ask, name="statuses")
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join()


@contextmanager
def run(folder: Path, model_data_dir: Path, **settings: str) -> Iterator[Run]:
    """Start in the background with a data folder of its own, stop at the end and see that nothing is left."""
    (folder / "models").symlink_to(model_data_dir / "models")  # converted once for all
    port = free_port()
    environ = os.environ | settings | {
        "AIDOCS_DATA_DIR": str(folder), "AIDOCS_SERVING__PORT": str(port), "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_S),
    }  # fmt: skip
    this = Run(f"http://127.0.0.1:{port}", environ, folder)
    with statuses_of(f"{this.url}/health/ready") as statuses:
        started = this.command("serve_app", "start")
    assert started.returncode == 0, started.stderr
    this = replace(this, start_statuses=frozenset(statuses))
    record = this.record()
    try:
        yield this
    finally:
        stopped = this.command("serve_app", "stop")
        left = [" ".join(command_line(p)) for p in bearing(record["mark"])]
        owner = owner_of(record)
    assert stopped.returncode == 0, stopped.stderr
    assert left == [] and owner is None, "stop left processes behind"
