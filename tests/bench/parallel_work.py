"""Functions that `tests.bench.parallel` runs, and the server that they call. Ray workers import this module."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import threading
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from jobs.parallel.graph import GraphStep
from jobs.parallel.task import Task, TaskProfile
from serve_app.documents.markdown_blocks import parse_blocks
from tests.bench.child import answer_all

LATENCY_S = 0.02
AT_ONCE = 48  # requests that the server handles concurrently; the others queue
MATRIX_BYTES = 48 * 1024**2
RESULT_BYTES = 2 * 1024**2


@cache
def page() -> str:
    """A real Markdown page."""
    return (Path(__file__).parents[2] / "docs" / "performance.md").read_text()


def parse(times: int) -> int:
    """CPU-bound work that holds the GIL: parses Markdown."""
    return sum(len(list(parse_blocks(page()[:20_000]))) for _ in range(times))


def parse_line(number: int) -> int:
    """A CPU-bound call of a few tenths of a millisecond."""
    start = number % 1_000
    return len(list(parse_blocks(page()[start : start + 400])))


def fetch(request: tuple[int, int]) -> int:
    """I/O-bound work: one request to the server. request: port of the server, and a number."""
    port, number = request
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"x")
        return len(connection.recv(64)) + number


def parse_fetched(fetched: int) -> int:
    return fetched + parse(1)


def fetch_and_parse(request: tuple[int, int]) -> int:
    return parse_fetched(fetch(request))


def transform(seed: int) -> NDArray[np.float32]:
    """Memory-bound work that releases the GIL: reads and writes a large array several times. Returns a part of it."""
    values = np.full(MATRIX_BYTES // 4, seed + 2, np.float32)
    for _ in range(4):
        np.sqrt(values, out=values)
        np.multiply(values, 3, out=values)
    return values[: RESULT_BYTES // 4].copy()


def step(times: int, *_: object) -> int:
    return parse(times)


def graph(nodes: int, seed: int = 0) -> list[GraphStep]:
    """Layers of steps of very different length, each needing one or two steps of the previous layer, and a chain."""
    chance = random.Random(seed)
    task = Task(step, TaskProfile.CPU)
    steps: list[GraphStep] = []
    layer: list[str] = []
    while len(steps) < nodes:
        width = chance.randint(3, 8)
        ids = [f"{len(steps) + number}" for number in range(width)]
        for id in ids:
            before = tuple(chance.sample(layer, min(len(layer), chance.randint(1, 2))))
            steps.append(GraphStep(id, task, (chance.choice((1, 1, 2, 6)),), needs=before))
        layer = ids
    chain = [f"chain {number}" for number in range(10)]
    for former, id in zip(["", *chain], chain, strict=False):
        steps.append(GraphStep(id, task, (4,), needs=(former,) if former else ()))
    return steps


async def serve(ports: SimpleQueue[int]) -> None:
    """Answers each connection after LATENCY_S, up to AT_ONCE connections concurrently."""
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        async with room:
            await asyncio.sleep(LATENCY_S)
        writer.write(b"answer")
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_024)
    ports.put(listening.sockets[0].getsockname()[1])
    await listening.serve_forever()


def main() -> None:
    """Runs the server as a child process, which answers with its port."""
    ports: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=lambda: asyncio.run(serve(ports)), daemon=True).start()
    port = ports.get(timeout=30)
    answer_all(lambda _: port, sys.stdin)


if __name__ == "__main__":
    main()
