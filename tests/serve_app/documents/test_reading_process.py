"""Real reading processes and real files that crash, hang or exhaust them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest

from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading import READERS, read_file
from serve_app.documents.reading_process import ReadingProcess
from serve_app.types import Document
from tests.serve_app.documents.readers.test_pdf import pdf


@pytest.fixture
def reader() -> Iterator[ReadingProcess]:
    reader = ReadingProcess()
    yield reader
    reader.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def slow_pdf(pages: int) -> bytes:
    return pdf(*("A page of many words. " * 20 for _ in range(pages)))


def test_every_format_gives_what_read_file_gives(reader: ReadingProcess, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("A page."))
    (tmp_path / "broken.pdf").write_bytes(b"no pdf")
    (tmp_path / "a.html").write_text("<title>T</title><p>text")
    (tmp_path / "a.md").write_text("# Title\n\ntext")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": f"row {n}"}) for n in range(9)))
    pyarrow.parquet.write_table(pa.table({"text": [f"row {n}" for n in range(2_000)]}), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert list(reader.read(path, tmp_path)) == list(read_file(path, tmp_path))
    assert len(children()) == 1


def test_text_needs_no_process(reader: ReadingProcess, tmp_path: Path) -> None:
    for suffix in set(READERS) - {".pdf", ".html", ".htm", ".parquet"}:
        (tmp_path / f"a{suffix}").write_text("text")
        assert list(reader.read(tmp_path / f"a{suffix}", tmp_path))
    assert children() == []


@pytest.mark.slow
def test_a_death_is_that_files_failure(reader: ReadingProcess, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>text")
    pyarrow.parquet.write_table(pa.table({"text": ["x" * 1_000] * 5_000}), tmp_path / "rows.parquet")
    assert isinstance(next(reader.read(tmp_path / "a.html", tmp_path)), Document)

    rows = reader.read(tmp_path / "rows.parquet", tmp_path)
    assert isinstance(next(rows), Document)
    (child,) = children()
    child.kill()
    *_, last = rows
    assert isinstance(last, ReadFailure)
    assert last.source == "rows.parquet"
    assert "the process that read it died" in last.error
    assert [type(one) for one in reader.read(tmp_path / "a.html", tmp_path)] == [Document]  # by a new one


def test_a_parser_that_hangs_is_ended(tmp_path: Path) -> None:
    reader = ReadingProcess(result_timeout_s=0.2)
    (tmp_path / "slow.pdf").write_bytes(slow_pdf(500))  # seconds
    (failure,) = reader.read(tmp_path / "slow.pdf", tmp_path)
    expected = "cannot be read: one document took longer than 0.2 s; split, repair or convert it"
    assert failure == ReadFailure("slow.pdf", expected)
    assert children() == []


@pytest.mark.slow
def test_memory_is_limited(tmp_path: Path) -> None:
    reader = ReadingProcess(max_memory_bytes=100 * 1024**2)
    (tmp_path / "big.html").write_bytes(b"<p>" + b"a <b>b</b>" * 1_000_000)
    (tmp_path / "a.html").write_text("<p>text")
    (failure,) = reader.read(tmp_path / "big.html", tmp_path)
    assert isinstance(failure, ReadFailure)
    assert [type(one) for one in reader.read(tmp_path / "a.html", tmp_path)] == [Document]
    reader.close()


def test_a_reader_left_in_the_middle_starts_afresh(reader: ReadingProcess, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"text": ["row"] * 5_000}), tmp_path / "a.parquet")
    for _ in range(2):
        rows = reader.read(tmp_path / "a.parquet", tmp_path)
        first = next(rows)
        assert isinstance(first, Document)
        assert first.id == "a.parquet#1"
        rows.close()


def test_a_name_that_is_no_text_travels(reader: ReadingProcess, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pdf"))
    path.write_bytes(pdf("text"))
    assert list(reader.read(path, tmp_path)) == list(read_file(path, tmp_path))
