"""What a run reads: files, or the documentation of the installed Python packages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from jobs.parallel.map import map_items
from jobs.parallel.task import Task, TaskProfile
from jobs.pipeline.ledger import DUPLICATE, DeadLetter
from serve_app.documents.python_packages import installed, python_package_documents
from serve_app.documents.readers.result import ReadResult
from serve_app.documents.reading import only_document
from serve_app.documents.reading_process import ReadingProcess
from serve_app.documents.sources import find_files, source_root
from serve_app.errors import InvalidInput

PYTHON_PACKAGES = "python-packages"
PACKAGE_BYTES = 10_000  # of documentation; the mean of 172 packages. It is known only when all is read


@dataclass(frozen=True, slots=True)
class Input:
    """A file of a source, read as one. size_bytes: its weight in the progress. place: in the source. only: ids of the
    documents to take of it; all if there is none. versions: of documents that are stored (jobs.copying), by id."""

    path: Path
    root: Path
    size_bytes: int
    place: int = 0
    only: frozenset[str] = frozenset()
    versions: tuple[tuple[str, str | None], ...] = ()

    SCHEMA: ClassVar = pa.schema(
        [
            ("path", pa.binary()),
            ("root", pa.binary()),
            ("size_bytes", pa.int64()),
            ("place", pa.int64()),
            ("only", pa.list_(pa.string())),
            ("versions", pa.map_(pa.string(), pa.string())),
        ]
    )

    @property
    def name(self) -> str:
        """For people. A file's name may be bytes that are no text."""
        return os.fsencode(self.path).decode(errors="backslashreplace")

    def to_columns(self) -> dict[str, Any]:
        return {
            "path": os.fsencode(self.path),
            "root": os.fsencode(self.root),
            "size_bytes": self.size_bytes,
            "place": self.place,
            "only": sorted(self.only),
            "versions": self.versions,
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Input:
        path, root = (Path(os.fsdecode(columns[name])) for name in ("path", "root"))
        only, versions = frozenset(columns["only"]), tuple(columns["versions"])
        return cls(path, root, columns["size_bytes"], columns["place"], only, versions)

    @property
    def only_document(self) -> str:
        """The id of the one document that it may have, "" where it may have several."""
        return "" if self.path == Path(PYTHON_PACKAGES) else only_document(self.path, self.root)


def inputs_of(source: str) -> list[Input]:
    """Raises InvalidInput if the source does not exist or has nothing that can be read."""
    if source == PYTHON_PACKAGES:
        packages, _ = installed()
        return [Input(Path(PYTHON_PACKAGES), Path(), PACKAGE_BYTES * len(packages))]
    root = source_root(source).absolute()  # the stages run in other folders, or on other machines that share this one
    paths = [path.absolute() for path in find_files(source)]
    return [
        Input(path, root, size, place) for place, (path, size) in enumerate(zip(paths, sizes_bytes(paths), strict=True))
    ]


def to_retry(inputs: Sequence[Input], letters: Sequence[DeadLetter]) -> tuple[list[Input], list[DeadLetter]]:
    """Those of the inputs that have a letter, each with the documents that failed; with all where a letter names
    none, and all below a folder that has one. And the letters that are left: of what is no longer there, and of
    duplicates, whose first is not read without the whole source. Raises InvalidInput if no input is chosen."""
    wanted: dict[str, set[str]] = {}  # by the name of an input, or of a folder
    for letter in letters:
        if letter.error != DUPLICATE:
            wanted.setdefault(letter.input, set()).add(letter.document_id)
    chosen, found = [], set[str]()
    for each in inputs:
        if names := wanted.keys() & {each.name, *folders_of(each.name)}:
            found |= names
            ids = frozenset().union(*(wanted[name] for name in names))
            chosen.append(replace(each, only=frozenset() if "" in ids else ids))
    left = [letter for letter in letters if letter.error == DUPLICATE or letter.input not in found]
    if not chosen:
        some = next((letter.input for letter in left), "nothing at all")
        raise InvalidInput(f"no dead letter is of this source and can be tried alone; they are of {some} and such")
    return chosen, left


def folders_of(name: str) -> Iterator[str]:
    """Those above it, from the nearest."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def read_input(source: Input, reader: ReadingProcess) -> Iterator[ReadResult]:
    if source.path == Path(PYTHON_PACKAGES):
        return python_package_documents()
    return reader.read(source.path, source.root)


def sizes_bytes(paths: Sequence[Path]) -> list[int]:
    """Asks for many at once, because each takes its time on a network's file system."""
    found = {result.item: result.value for result in map_items(Task(size_bytes, TaskProfile.IO), paths)}
    return [found[path] for path in paths]


def size_bytes(path: Path) -> int:
    """0 where it cannot be told; reading tells why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def total_bytes(inputs: Sequence[Input]) -> int:
    return sum(each.size_bytes for each in inputs)
