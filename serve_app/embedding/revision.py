"""A revision for a model without a commit: the hash of its files, remembered while they stay untouched."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from serve_app.errors import ConfigurationError

SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})  # weights, configuration, vocabulary
OTHER_FORMATS = frozenset({"onnx", "openvino"})  # copies of the same model, not read here


def content_revision(folder: Path, models_dir: Path) -> str:
    """SHA-256 (hex) over names and bytes of the model's files, in order of name.

    Kept in models_dir/revisions under the files' names, sizes and times: 90 MB of weights are hashed once and not at
    each start. Raises ConfigurationError if the folder holds no model or cannot be read.
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
        raise ConfigurationError(f"cannot read the model in {folder} or note its revision: {error}") from error
    return revision


def write_atomically(path: Path, text: str) -> None:
    """The file has its old content or the new one, never a part."""
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
