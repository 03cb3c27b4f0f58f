"""A closed-loop HTTP client, light enough to run on the same two cores as the server. Runs as a separate process:

    python -m tests.bench.load http://127.0.0.1:8000/v1/… bodies.jsonl --clients 32 --seconds 5

Each body is sent once, so that no response comes from a cache. Prints JSON: requests, errors, requests_per_s, p50_ms,
p95_ms, p99_ms, and server_p50_ms if the responses contain `took_ms`. Loopback only. Ends after the given time, or when
all bodies were sent.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

TOOK = re.compile(rb'"took_ms":([0-9.]+)')


class Client:
    """One keep-alive connection. Understands only what Serve and HAProxy send: a Content-Length or chunks."""

    def __init__(self, host: str, port: int, head: str) -> None:
        self._host, self._port, self._head = host, port, head
        self._is_over = False

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """The status, and the response body unless it was chunked."""
        if self._is_over:
            await self.close()
            await self.connect()
        self._writer.write(self._head.format(length=len(body)).encode() + body)
        header = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        self._is_over = (
            b"\r\nconnection: close\r\n" in header
        )  # sent by HAProxy after it has reloaded its configuration
        return int(header[9:12]), await self._content(header)

    async def _content(self, header: bytes) -> bytes:
        if (at := header.find(b"content-length:")) >= 0:
            return await self._reader.readexactly(int(header[at + 15 : header.index(b"\r\n", at)]))
        while size := int(await self._reader.readline(), 16):
            await self._reader.readexactly(size + 2)
        await self._reader.readexactly(2)
        return b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def head_for(url: str) -> str:
    """Request headers with a placeholder `{length}`."""
    parts = urlsplit(url)
    assert parts.hostname in {"127.0.0.1", "localhost"}, "loopback only"
    return (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        "content-length: {length}\r\n\r\n"
    )


async def run(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> dict[str, float]:
    parts, head = urlsplit(url), head_for(url)
    latencies_ms: list[float] = []
    server_ms: list[float] = []
    errors = 0
    supply = iter(bodies)
    deadline_s = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal errors
        connection = Client(parts.hostname or "", parts.port or 80, head)
        await connection.connect()
        while (started_s := time.perf_counter()) < deadline_s and (body := next(supply, None)) is not None:
            status, answer = await connection.post(body)
            latencies_ms.append((time.perf_counter() - started_s) * 1e3)
            errors += status != 200
            if took := TOOK.search(answer):
                server_ms.append(float(took[1]))
        await connection.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    result = summarise(latencies_ms, errors, time.perf_counter() - started_s)
    return result | {"server_p50_ms": statistics.median(server_ms)} if server_ms else result


def summarise(latencies_ms: Sequence[float], errors: int, elapsed_s: float) -> dict[str, float]:
    cuts = (
        statistics.quantiles(latencies_ms, n=100, method="inclusive") if len(latencies_ms) > 1 else [float("nan")] * 99
    )
    return {
        "requests": len(latencies_ms),
        "errors": errors,
        "requests_per_s": len(latencies_ms) / elapsed_s,
        "p50_ms": cuts[49],
        "p95_ms": cuts[94],
        "p99_ms": cuts[98],
    }


def load(url: str, bodies: Path, *, clients: int, seconds: float, skip: int = 0) -> dict[str, Any]:
    """Run this module as a separate process, so that the client does not slow the server's process. skip: number of
    bodies that were sent before."""
    command = [sys.executable, "-m", "tests.bench.load", url, str(bodies)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--skip", str(skip)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds + 60, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    if result["errors"]:
        raise RuntimeError(f"{result['errors']} of {result['requests']} requests to {url} failed")
    return result


def main(
    url: str,
    bodies: Path,
    clients: Annotated[int, typer.Option()] = 32,
    seconds: Annotated[float, typer.Option()] = 5,
    skip: Annotated[int, typer.Option()] = 0,
) -> None:
    lines = bodies.read_bytes().splitlines()[skip:]
    print(json.dumps(asyncio.run(run(url, lines, clients, seconds))))


if __name__ == "__main__":
    typer.run(main)
