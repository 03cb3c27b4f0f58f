"""Files that change while they are read."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading import CHANGED, read_file
from serve_app.types import Document
from tests.integration.running import poll

ROWS = 20_000  # more than is read ahead
PAGE_CHARS = 4 * 1024 * 1024
PAUSES_S = (0.02, 0.2, 2.0)  # shorter and longer than it is read, also on a busy machine


def rows(first: int, last: int) -> str:
    return "".join(json.dumps({"id": str(n), "text": f"row {n}"}) + "\n" for n in range(first, last))


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write(rows(ROWS, ROWS + 10))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text(rows(0, 10))
    other.replace(path)


def rewrite(path: Path) -> None:
    path.write_text(rows(0, ROWS).replace("row", "now"))


@pytest.mark.parametrize("change", [append, cut_off, replace, rewrite])
def test_rows_of_a_file_that_changes_are_whole_and_it_is_told(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(rows(0, ROWS))
    results = read_file(path, tmp_path)
    first = next(results)
    change(path)
    *others, last = results
    assert last == ReadFailure("rows.jsonl", CHANGED)  # of no document: it cannot be told which are missing
    documents = [one for one in (first, *others) if isinstance(one, Document)]
    assert all(one.text in {f"row {one.id}", f"now {one.id}"} for one in documents)


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(rows(0, ROWS))
    results = read_file(path, tmp_path)
    next(results)
    path.unlink()
    *_, last = results
    assert last == ReadFailure("rows.jsonl", "cannot be read: No such file or directory")
    assert list(read_file(path, tmp_path)) == [last]


def test_what_does_not_change_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(rows(0, 10))
    assert all(isinstance(one, Document) for one in read_file(path, tmp_path))


def test_a_page_is_one_version_or_a_failure(tmp_path: Path) -> None:
    """While another writes it in place, time and again."""
    path = tmp_path / "page.txt"
    versions = ["a" * PAGE_CHARS, "b" * PAGE_CHARS]
    path.write_text(versions[0])
    ended = threading.Event()

    def write() -> None:
        for version, pause_s in zip(cycle(versions), cycle(PAUSES_S), strict=False):
            if ended.is_set():
                return
            with path.open("r+") as file:
                file.write(version)
            ended.wait(pause_s)

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[str] = set()

    def read() -> bool:
        [result] = read_file(path, tmp_path)
        if isinstance(result, Document):
            assert result.text in versions
            seen.add("a version")
        else:
            assert result == ReadFailure("page.txt", CHANGED)
            seen.add("a failure")
        return len(seen) == 2

    try:
        poll(read, timeout_s=60, pause_s=0)
    finally:
        ended.set()
        writer.join()
