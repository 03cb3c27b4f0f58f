"""The revision of a model that has no commit: the hash of its files, stored until the files change."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from serve_app.errors import ConfigurationError

SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})  # weights, configuration, vocabulary
OTHER_FORMATS = frozenset({"onnx", "openvino"})  # folders with copies of the same model, which are not used


def content_revision(folder: Path, models_dir: Path) -> str:
    """SHA-256 (hex) of the names and bytes of the model's files, sorted by name.

    The hash is stored in models_dir/revisions under a key made of the files' names, sizes and times, so that 90 MB of
    weights are hashed once and not at each start. Raises ConfigurationError if the folder holds no model, cannot be
    read, or the hash cannot be stored.
    """
    try:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _counts(path.relative_to(folder))]
        if not any(path.name == "config.json" for path in files):
            raise ConfigurationError(f"{folder} holds no model: there is no config.json")
        stats = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        seen = hashlib.sha256(json.dumps([str(folder), stats]).encode()).hexdigest()
        note = models_dir / "revisions" / seen
        if note.is_file() and (known := note.read_text()):
            return known
        revision = _hash(folder, files)
        write_atomically(note, revision)
    except OSError as error:
        raise ConfigurationError(f"cannot read the model in {folder} or store its revision: {error}") from error
    return revision


def write_atomically(path: Path, text: str) -> None:
    """Write the file. A reader sees the old content or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".partial-", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _counts(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix in SUFFIXES and not hidden and OTHER_FORMATS.isdisjoint(relative.parts)


def _hash(folder: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()
