"""Files → documents. The suffix chooses the reader; whatever a parser raises becomes a failure here."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from serve_app.documents.readers.html import read_html
from serve_app.documents.readers.json_files import read_json, read_json_lines
from serve_app.documents.readers.pdf import read_pdf
from serve_app.documents.readers.result import Reader, ReadFailure, ReadResult, failure_of
from serve_app.documents.readers.rst import read_rst
from serve_app.documents.readers.tables import read_csv, read_parquet
from serve_app.documents.readers.text import read_markdown, read_text
from serve_app.errors import InvalidInput
from serve_app.validation import mend

READERS: dict[str, Reader] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".rst": read_rst,
    ".html": read_html,
    ".htm": read_html,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".jsonl.gz": read_json_lines,
    ".ndjson.gz": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".csv.gz": read_csv,
    ".tsv.gz": read_csv,
    ".parquet": read_parquet,
    ".pdf": read_pdf,
}


ROW_READERS: frozenset[Reader] = frozenset({read_json, read_json_lines, read_csv, read_parquet})
LAZY_READERS = ROW_READERS - {read_json}  # stream files of any length; the others read the whole file first
CHANGED = "changed while it was read: run the command again when nothing writes to the file"
CLOCK_TICK_S = 0.01  # two writes within one tick leave the same modification time


def reader_of(path: Path) -> Reader | None:
    """The reader for the last two suffixes if there is one (`.jsonl.gz`), else for the last; case does not matter."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return READERS.get("".join(suffixes)) or READERS.get("".join(suffixes[-1:]))


def document_id(path: Path, root: Path) -> str:
    """The file's POSIX path below `root`: the same on every machine that has the same folder."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def has_rows(path: Path) -> bool:
    """Whether the file's format, by its suffix, may hold several documents, which may have ids of their own."""
    return reader_of(path) in ROW_READERS


def only_document(path: Path, root: Path) -> str:
    """The id of the file's only document; "" if the file may hold several, or if it is or was a folder. Never
    raises."""
    is_one = reader_of(path) is not None and not has_rows(path) and not os.path.isdir(path)  # noqa: PTH112 - Path's raises
    return mend(document_id(path, root)) if is_one else ""


def read_file(path: Path, root: Path) -> Iterator[ReadResult]:
    """A result for each document of the file, read lazily; each document passes `validate`. A bad file never raises
    but yields a failure, and so does a file that changes while it is read."""
    name = document_id(path, root)
    source = mend(name)
    try:
        status = path.stat()
        reader = reader_of(path)
        if stat.S_ISDIR(status.st_mode):
            yield ReadFailure(source, "is a folder that cannot be listed: check its permissions")
        elif not stat.S_ISREG(status.st_mode):
            yield ReadFailure(source, "is not a regular file but a pipe, socket or device")
        elif source != name:
            yield ReadFailure(source, "has a name that is not UTF-8: rename it")
        elif reader is None:
            yield ReadFailure(source, f"has no known suffix: {', '.join(READERS)}")
        elif not status.st_size:
            yield ReadFailure(source, "is empty")
        else:
            yield from _read_undisturbed(path, name, reader, status)
    except InvalidInput as error:
        yield ReadFailure(source, str(error))
    except OSError as error:
        yield ReadFailure(source, f"cannot be read: {error.strerror or error}")
    except Exception as error:  # parsers do not document what they raise
        yield failure_of(source, error)


def _read_undisturbed(path: Path, name: str, reader: Reader, before: os.stat_result) -> Iterator[ReadResult]:
    """Yields a failure if the file changes while it is read. A single document is then withheld, because it may mix
    the old and the new content; rows were already yielded, and the failure follows them."""
    if 0 <= (age_s := time.time() - before.st_mtime) < CLOCK_TICK_S:
        time.sleep(CLOCK_TICK_S - age_s)
    is_lazy = reader in LAZY_READERS
    results = reader(path, name) if is_lazy else list(reader(path, name))
    if is_lazy:
        yield from results
    if _version(path.stat()) != _version(before):
        yield ReadFailure(name, CHANGED)
    elif not is_lazy:
        yield from results


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
