"""An open-loop HTTP client: it sends requests when they are due, whether or not earlier ones have completed. Latency
counts from the due time and so includes waiting (Schroeder, Wierman, Harchol-Balter: Open Versus Closed, 2006).

    python -m tests.bench.open_loop http://127.0.0.1:8000/v1/… bodies.jsonl --rate 50 --seconds 10

Arrivals are a Poisson process. Prints JSON: offered_per_s, answered_per_s, sent, refused (429), and p50_ms, p95_ms,
p99_ms of the successful requests. Loopback only.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tests.bench.load import Client, head_for, summarise

OK, TOO_MANY = 200, 429
MAX_CONNECTIONS = 512
ANSWER_TIMEOUT_S = 30.0


class Sender:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._head = parts.hostname or "", parts.port or 80, head_for(url)
        self._idle: list[Client] = []
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self.latencies_ms: list[float] = []
        self.refused = 0

    async def send(self, body: bytes, due_s: float) -> None:
        """Raises RuntimeError if the status is neither 200 nor 429."""
        async with self._places, asyncio.timeout(ANSWER_TIMEOUT_S):
            client = self._idle.pop() if self._idle else await self._connected()
            status, _ = await client.post(body)
        self._idle.append(client)
        if status not in {OK, TOO_MANY}:
            raise RuntimeError(f"status {status}")
        if status == OK:
            self.latencies_ms.append((time.perf_counter() - due_s) * 1e3)
        self.refused += status == TOO_MANY

    async def _connected(self) -> Client:
        client = Client(self._host, self._port, self._head)
        await client.connect()
        return client

    async def close(self) -> None:
        for client in self._idle:
            await client.close()


async def run(url: str, bodies: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> dict[str, float]:
    """Sends each body at most once. Raises ValueError if there are too few bodies."""
    due_s = arrivals(rate, seconds, seed)
    if len(due_s) > len(bodies):
        raise ValueError(f"{len(due_s)} requests need as many bodies, but there are only {len(bodies)}")
    sender, started_s = Sender(url), time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for body, after_s in zip(bodies, due_s, strict=False):
            await asyncio.sleep(started_s + after_s - time.perf_counter())
            requests.create_task(sender.send(body, started_s + after_s))
    await sender.close()
    summary = summarise(sender.latencies_ms, 0, time.perf_counter() - started_s)
    percentiles = {name: summary[name] for name in ("p50_ms", "p95_ms", "p99_ms")}
    return {
        "offered_per_s": rate,
        "answered_per_s": summary["requests_per_s"],
        "sent": len(due_s),
        "refused": sender.refused,
        **percentiles,
    }


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times of a Poisson process, in seconds from the start."""
    chance = random.Random(seed)
    at_s, times_s = chance.expovariate(rate), []
    while at_s < seconds:
        times_s.append(at_s)
        at_s += chance.expovariate(rate)
    return times_s


def offer(url: str, bodies: Path, *, rate: float, seconds: float, skip: int = 0) -> dict[str, Any]:
    """Run this module as a separate process, so that the client does not slow the server's process."""
    command = [sys.executable, "-m", "tests.bench.open_loop", url, str(bodies), "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--skip", str(skip)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + ANSWER_TIMEOUT_S + 30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2_000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(
    url: str,
    bodies: Path,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")],
    seconds: Annotated[float, typer.Option()] = 10,
    skip: Annotated[int, typer.Option(help="Number of bodies to skip because they were sent before.")] = 0,
) -> None:
    lines = bodies.read_bytes().splitlines()[skip:]
    print(json.dumps(asyncio.run(run(url, lines, rate, seconds))))


if __name__ == "__main__":
    typer.run(main)
