"""Converted models on disk. Each is converted once per machine, in a child process, and is visible only when complete.

    data_dir/models/all-MiniLM-L6-v2-<revision>/
        openvino-2026.4.1-c2-fp32/   model.xml model.bin [tokenizer.json]
        openvino-2026.4.1-c2-int8/   model.xml model.bin
        .partial-xxxxxxxx/           conversion in progress, or left by a process that died
        .lock

A folder has a temporary name until it is complete. If two processes convert the same model, both use the folder that
is renamed first. The lock only avoids doing the work twice on one machine; the system frees it if its holder dies.
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
CONVERTER_VERSION = 2  # increase when the same model would be converted differently
CONVERSION_TIMEOUT_S = 1_800.0
POLL_S = 0.1


def find_artifact(model: Model, kind: Kind) -> Path | None:
    """The folder of the converted model; None if the model was not converted before."""
    folder = model.cache_dir / artifact_name(kind)
    return folder if folder.is_dir() else None


def ensure_artifact(model: Model, kind: Kind) -> Path:
    """The folder with model.xml and model.bin. Converts the model first if necessary, which takes seconds.

    Raises ConfigurationError if the model cannot be converted or the folder cannot be written, EngineUnavailable if
    the conversion takes longer than CONVERSION_TIMEOUT_S.
    """
    if found := find_artifact(model, kind):
        return found
    source = ensure_artifact(model, "fp32") if kind == "int8" else model.path
    try:
        model.cache_dir.mkdir(parents=True, exist_ok=True)
        with _lock(model.cache_dir / ".lock"):
            return find_artifact(model, kind) or _make(model, kind, source)
    except OSError as error:
        raise ConfigurationError(f"cannot write the converted model to {model.cache_dir}: {error}") from error


def artifact_name(kind: Kind) -> str:
    return f"openvino-{importlib.metadata.version('openvino')}-c{CONVERTER_VERSION}-{kind}"


def publish(partial: Path, final: Path) -> Path:
    """Rename the complete folder to `final`. If another process did so first, delete ours and use the other."""
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
    """Run in a separate process, so that this one never imports torch and its memory is freed afterwards."""
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
    """Remove folders left by processes that died. The timeout has ended any other conversion of that age."""
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
