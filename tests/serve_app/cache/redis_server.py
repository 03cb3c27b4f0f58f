"""A real redis-server for a test: a free port, its own folder, ended by its own process id."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotYet

from serve_app.local.ports import free_port
from tests.services import require

START_TIMEOUT_S = 20.0
CLUSTER_TIMEOUT_S = 30.0
# An empty server takes about a mebibyte itself.
BOUNDED = ("--maxmemory", str(4 * 1024 * 1024), "--maxmemory-policy", "volatile-lfu", "--maxmemory-clients", "0")


class RedisServer:
    def __init__(self, port: int, folder: Path, options: Sequence[str]) -> None:
        self.port = port
        self._command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *options]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def cluster_url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except NotYet:
                    assert self._process.poll() is None, "redis-server ended at its start"
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)

    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=5)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, as behind a cut cable."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)


@contextlib.contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(free_port(), folder, options)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def redis_cluster(folders: Sequence[Path], *options: str) -> Iterator[RedisServer]:
    """One of the primaries of a cluster, with one primary for each folder."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(redis_server(folder, "--cluster-enabled", "yes", *options)) for folder in folders]
        for number, node in enumerate(nodes):
            with node.client() as client:
                first, end = (16_384 * part // len(nodes) for part in (number, number + 1))
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port) if number else None
        deadline_s = time.monotonic() + CLUSTER_TIMEOUT_S
        for node in nodes:
            with node.client() as client:
                while not is_whole(client.execute_command("CLUSTER INFO"), len(nodes)):
                    assert time.monotonic() < deadline_s
                    time.sleep(0.02)
        yield nodes[0]


def is_whole(state: dict[str, str], nodes: int) -> bool:
    return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == str(nodes)
