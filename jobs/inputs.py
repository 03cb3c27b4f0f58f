"""What a run reads: files, or the documentation of the installed Python packages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from serve_app.documents.python_packages import installed, python_package_documents
from serve_app.documents.readers.result import ReadResult
from serve_app.documents.reading_process import ReadingProcess
from serve_app.documents.sources import find_files, source_root

PYTHON_PACKAGES = "python-packages"
PACKAGE_BYTES = 9_000  # of documentation; the mean of 162 packages. It is known only when all is read


@dataclass(frozen=True, slots=True)
class Input:
    """A file of a source, read as one. size_bytes: its weight in the progress."""

    path: Path
    root: Path
    size_bytes: int

    SCHEMA: ClassVar = pa.schema([("path", pa.binary()), ("root", pa.binary()), ("size_bytes", pa.int64())])

    @property
    def name(self) -> str:
        """For people. A file's name may be bytes that are no text."""
        return os.fsencode(self.path).decode(errors="backslashreplace")

    def to_columns(self) -> dict[str, Any]:
        return {"path": os.fsencode(self.path), "root": os.fsencode(self.root), "size_bytes": self.size_bytes}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Input:
        path, root = (Path(os.fsdecode(columns[name])) for name in ("path", "root"))
        return cls(path, root, columns["size_bytes"])


def inputs_of(source: str) -> list[Input]:
    """Raises InvalidInput if the source does not exist or has nothing that can be read."""
    if source == PYTHON_PACKAGES:
        packages, _ = installed()
        return [Input(Path(PYTHON_PACKAGES), Path(), PACKAGE_BYTES * len(packages))]
    root = source_root(source).absolute()  # the stages run in other folders, or on other machines that share this one
    return [Input(path.absolute(), root, size_bytes(path)) for path in find_files(source)]


def read_input(source: Input, reader: ReadingProcess) -> Iterator[ReadResult]:
    if source.path == Path(PYTHON_PACKAGES):
        return python_package_documents()
    return reader.read(source.path, source.root)


def size_bytes(path: Path) -> int:
    """0 where it cannot be told; reading tells why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def total_bytes(inputs: Sequence[Input]) -> int:
    return sum(each.size_bytes for each in inputs)
