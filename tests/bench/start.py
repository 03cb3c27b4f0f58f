"""Compares the time from start to first response with that of Ray Serve with a handler that does nothing.

Both run in the same mode, on a warm installation: the model is converted and the bytecode is compiled. The reference is
`python -m tests.bench.start`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serve_app.local import run as local
from serve_app.local.ports import free_port
from serve_app.settings import Settings, load_settings
from tests.bench.rounds import Comparison, Series, interleave
from tests.bench.running import wait_until_it_answers

TIMEOUT_S = 180


def compare(settings: Settings, rounds: int) -> Comparison:
    times = interleave({"ai-docs": lambda: seconds_of_ours(settings), "empty": seconds_of_empty}, rounds)
    ours, empty = (Series(name, "s", values) for name, values in times.items())
    figure = "start to first answer"
    return Comparison(figure, ours, Series("Ray and an empty handler", "s", empty.values), less_is_better=True)


def seconds_of_ours(settings: Settings) -> float:
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as folder:
        Path(folder, "models").symlink_to(settings.data_dir / "models")
        port = free_port()
        environ = os.environ | {"AIDOCS_DATA_DIR": folder, "AIDOCS_SERVING__PORT": str(port)}
        command = [sys.executable, "-m", "serve_app"]
        started_s = time.perf_counter()
        process = subprocess.Popen(
            [*command, "start"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_it_answers(
                f"http://127.0.0.1:{port}/v1/embeddings", b'{"model": "all-MiniLM-L6-v2", "input": "x"}'
            )
            return time.perf_counter() - started_s
        finally:
            try:
                process.wait(timeout=TIMEOUT_S)  # it waits for its dashboard after the first response
            finally:
                subprocess.run([*command, "stop"], env=environ, check=True, capture_output=True, timeout=TIMEOUT_S)


def seconds_of_empty() -> float:
    """Seconds to the first response of the reference, without its shutdown."""
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as folder:
        port = free_port()
        environ = os.environ | {"AIDOCS_DATA_DIR": folder, "AIDOCS_SERVING__PORT": str(port)}
        started_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.start"], env=environ, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/")
            return time.perf_counter() - started_s
        finally:
            process.communicate(timeout=TIMEOUT_S)


def serve_nothing(settings: Settings) -> None:
    """Runs the reference until stdin is closed."""
    mark = local.mark_this_run(settings)
    try:
        import ray  # imported here, because it reads the environment of the run
        from ray import serve

        from tests.bench import empty_handler

        ray.init(address="local", log_to_driver=False, object_store_memory=local.OBJECT_STORE_BYTES)
        serve.start(http_options={"host": settings.serving.host, "port": settings.serving.port})
        serve.run(empty_handler.build())
        sys.stdin.read()
    finally:
        local.end(settings, mark)


if __name__ == "__main__":
    serve_nothing(load_settings())
