"""Converted models on disk: made once per machine, in a child process, and never seen half-made.

    data_dir/models/all-MiniLM-L6-v2-<revision>/
        openvino-2026.4.1-c2-fp32/   model.xml model.bin [tokenizer.json]
        openvino-2026.4.1-c2-int8/   model.xml model.bin
        .partial-xxxxxxxx/           being made, or left by a process that died
        .lock

A folder is made under a temporary name and renamed when complete. Of two that were made at once the first renamed is
used by both; the lock only spares the work on one machine, and is freed by the system when its holder dies.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from serve_app.embedding.models import Model
from serve_app.errors import ConfigurationError, EngineUnavailable

logger = logging.getLogger(__name__)

Kind = Literal["fp32", "int8"]

CONVERTER = "serve_app.embedding.backends.convert"
CONVERTER_VERSION = 2  # count up when the same model would be converted differently
CONVERSION_TIMEOUT_S = 1_800.0
POLL_S = 0.1


def find_artifact(model: Model, kind: Kind) -> Path | None:
    """The folder, if it was made before."""
    folder = model.cache_dir / artifact_name(kind)
    return folder if folder.is_dir() else None


def ensure_artifact(model: Model, kind: Kind) -> Path:
    """The folder with model.xml and model.bin, made now if need be, which takes seconds.

    Raises ConfigurationError if the model cannot be converted or the folder not written, EngineUnavailable if that
    takes longer than CONVERSION_TIMEOUT_S.
    """
    if found := find_artifact(model, kind):
        return found
    source = ensure_artifact(model, "fp32") if kind == "int8" else model.path
    try:
        model.cache_dir.mkdir(parents=True, exist_ok=True)
        with _lock(model.cache_dir / ".lock"):
            return find_artifact(model, kind) or _make(model, kind, source)
    except OSError as error:
        raise ConfigurationError(f"cannot keep the converted model in {model.cache_dir}: {error}") from error


def artifact_name(kind: Kind) -> str:
    return f"openvino-{importlib.metadata.version('openvino')}-c{CONVERTER_VERSION}-{kind}"


def publish(partial: Path, final: Path) -> Path:
    """Give the complete folder its name; if another was first, use that one and drop ours."""
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    partial.chmod(0o755)
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _make(model: Model, kind: Kind, source: Path) -> Path:
    _remove_abandoned(model.cache_dir)
    partial = Path(tempfile.mkdtemp(dir=model.cache_dir, prefix=".partial-"))
    started = time.monotonic()
    logger.info("converting %s to %s, once for this machine", model.name, kind)
    try:
        _run_converter({"kind": kind, "source": str(source), "target": str(partial), "model": asdict(model)})
        folder = publish(partial, model.cache_dir / artifact_name(kind))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    logger.info("converted %s to %s in %.0f s", model.name, kind, time.monotonic() - started)
    return folder


def _run_converter(order: dict[str, object]) -> None:
    """In a process of its own: torch never enters this one, and the memory it took is given back."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", CONVERTER, json.dumps(order, default=str)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=CONVERSION_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(f"the model was not converted within {CONVERSION_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        reason = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ConfigurationError(f"the model cannot be converted (exit code {done.returncode}):\n{reason}")


def _remove_abandoned(cache_dir: Path) -> None:
    """What a process that died has left; one that still runs would have been stopped by now."""
    for partial in cache_dir.glob(".partial-*"):
        if time.time() - partial.stat().st_mtime > 2 * CONVERSION_TIMEOUT_S:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + CONVERSION_TIMEOUT_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"another process has held {path} for too long") from None
                time.sleep(POLL_S)
        yield
