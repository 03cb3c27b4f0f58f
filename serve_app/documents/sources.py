"""The files that `--source` names: a file, a folder or a glob."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_app.documents.readers.result import ReadResult
from serve_app.documents.reading import READERS, read_file, reader_of
from serve_app.errors import InvalidInput


def find_files(source: str) -> list[Path]:
    """The files to read, sorted: the file itself, all files below the folder, or the matches of the glob (`**` too).

    Hidden files and folders are left out. A link to a folder is followed once. The result includes subfolders that
    cannot be listed and dangling links below a folder, so that reading them reports the failure; a glob skips both.
    Raises InvalidInput if the source does not exist, cannot be accessed, or has no file of a known kind.
    """
    with _naming(source):
        return sorted(_found(source))


def _found(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        if reader_of(path) is None:
            raise InvalidInput(f"{source}: unknown kind of file; known kinds are {known_suffixes()}")
        return [path]
    if path.is_dir():
        found = list(_walk(path))
    elif glob.has_magic(source):
        found = list(_matches(path, source_root(source)))
    else:
        raise InvalidInput(f"{source}: no such file or folder")
    if not found:
        raise InvalidInput(f"{source}: no documents found; known kinds of files are {known_suffixes()}")
    return found


def is_dangling(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110 - Path's raises


def is_glob(source: str) -> bool:
    with _naming(source):
        return glob.has_magic(source) and not Path(source).expanduser().exists()


def source_root(source: str) -> Path:
    """The folder to which document ids are relative: the folder itself, the file's folder, or the part of a glob
    before its first wildcard. Raises InvalidInput if the source cannot be accessed."""
    with _naming(source):
        path = Path(source).expanduser()
        if path.is_dir():
            return path
        if path.exists() or not glob.has_magic(source):
            return path.parent
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
    return Path(*plain)


def read_source(source: str) -> Iterator[ReadResult]:
    """Every document of every file. Raises InvalidInput as `find_files` does, before it yields anything."""
    root = source_root(source)
    for path in find_files(source):
        yield from read_file(path, root)


def known_suffixes() -> str:
    return ", ".join(READERS)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Turns errors of the system, such as an overlong name or a forbidden parent folder, into InvalidInput with the
    source's name."""
    try:
        yield
    except OSError as error:
        raise InvalidInput(f"{source}: cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # `~name` of an unknown user
        raise InvalidInput(f"{source}: {error}") from error


def _matches(pattern: Path, root: Path) -> Iterator[Path]:
    try:
        matches = list(root.glob(str(pattern.relative_to(root))))  # does not follow links to folders: no loops
    except ValueError as error:
        raise InvalidInput(f"{pattern}: {error}") from error
    for match in matches:
        hidden = any(part.startswith(".") for part in match.relative_to(root).parts)
        if not hidden and not match.is_dir() and reader_of(match):
            yield match


def _walk(root: Path) -> Iterator[Path]:
    unlisted: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(
        root, followlinks=True, onerror=lambda error: unlisted.append(Path(error.filename))
    ):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = (Path(folder, name) for name in files if not name.startswith("."))
        yield from (path for path in visible if reader_of(path) or is_dangling(path))  # the target may be a lost folder
    yield from unlisted
