from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.serve_app.cache.redis_server import BOUNDED, RedisServer, redis_server

START_TIMEOUT_S = 30.0


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One of three primaries."""
    with contextlib.ExitStack() as stack:
        options = ("--cluster-enabled", "yes", *BOUNDED)
        nodes = [stack.enter_context(redis_server(tmp_path_factory.mktemp("node"), *options)) for _ in range(3)]
        for number, node in enumerate(nodes):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 16_384 * number // 3, 16_384 * (number + 1) // 3 - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port) if number else None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        for node in nodes:
            with node.client() as client:
                while not is_whole(client.execute_command("CLUSTER INFO")):
                    assert time.monotonic() < deadline_s
                    time.sleep(0.02)
        yield nodes[0]


def is_whole(state: dict[str, str]) -> bool:
    return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3"
