"""Files of two gigabytes with a single line. They are sparse files, which need no disk space and no time to create."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading import read_file
from serve_app.types import Document

ROOT = Path(__file__).parents[3]
SIZE_BYTES = 2 * 1024**3
MOST_BYTES = 256 * 1024**2  # of memory: a sixteenth of the file as text
WORDS = b"words " * 20_000  # more than an encoding is guessed from


def write_huge(path: Path, head: bytes, tail: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(SIZE_BYTES)
        file.seek(SIZE_BYTES)
        file.write(tail)


@pytest.mark.slow
def test_a_line_of_two_gigabytes_is_a_failure_and_not_in_memory(tmp_path: Path) -> None:
    for suffix in ("txt", "md", "rst", "html", "json", "pdf"):
        write_huge(tmp_path / f"a.{suffix}", WORDS)
    small = b'{"id": "small", "text": "fits"}\n'
    last = small.replace(b"small", b"last")
    write_huge(tmp_path / "a.jsonl", small + b'{"id": "huge", "text": "' + WORDS, b'"}\n' + last)
    write_huge(tmp_path / "a.csv", b"id,text\nsmall,fits\nhuge," + WORDS, b"\n")
    write_huge(tmp_path / "a.parquet", b"PAR1" + WORDS, b"\xff\xff\xff\x7fPAR1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.serve_app.documents.huge_files_child", str(tmp_path)],
        capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    too_large = ["larger than 67108864 bytes, the limit for this format: split it"]
    too_long = "longer than 16777216 characters: split the document"
    [parquet] = told["results"].pop("a.parquet")
    assert "cannot be read" in parquet
    [row, line] = told["results"].pop("a.csv")
    assert row == "small" and f"a line is {too_long}" in line
    assert told["results"].pop("a.jsonl") == ["small", f"is {too_long}", "last"]
    assert told["results"] == {f"a.{suffix}": too_large for suffix in ("txt", "md", "rst", "html", "json", "pdf")}
    assert told["own_bytes"] < MOST_BYTES and told["reader_bytes"] < MOST_BYTES


def test_what_follows_a_quote_that_is_not_closed_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,one\n2,"two\n' + "3,three\n" * 100)
    before = csv.field_size_limit(200)
    try:
        first, *rest = read_file(path, tmp_path)
    finally:
        csv.field_size_limit(before)
    assert isinstance(first, Document) and first.id == "1"
    [failure] = rest
    assert isinstance(failure, ReadFailure) and "field larger than field limit" in failure.error
