from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.documents.readers import result
from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading import READERS, read_file
from serve_app.types import Document
from serve_app.validation import validate

CONTENT = st.binary(max_size=200) | st.text(max_size=200).map(str.encode)
SYNTAX = [
    b"<p>",
    b"<table><tr>",
    b"# h\n",
    b"---\n",
    b'{"text": "x"}',
    b"[",
    b"a,b\n",
    b'"',
    b"%PDF-1.4\n",
    b"PAR1",
    b"::\n",
]
BROKEN = [
    b".. note::\n",
    b"====\n",
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"a: &a [*a]\n",
    b"| x |\n",
    b"|-|\n",
]
SHAPED = st.lists(st.sampled_from(SYNTAX + BROKEN), max_size=30).map(b"".join)


@pytest.mark.parametrize("suffix", READERS)
@given(content=CONTENT | SHAPED)
@settings(max_examples=30, deadline=None)
def test_any_bytes_give_documents_or_failures(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        results = list(read_file(path, Path(folder)))
    assert results  # never silence
    for one in results:
        if isinstance(one, Document):
            validate(one)
        else:
            assert one.source.startswith(path.name)
            assert one.error


def test_what_cannot_be_opened_is_a_failure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.md").symlink_to(tmp_path / "gone.md")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.exe").write_bytes(b"x")
    (tmp_path / "empty.txt").touch()
    errors = {
        name: list(read_file(tmp_path / name, tmp_path))
        for name in ("pipe.txt", "link.md", "folder", "a.exe", "empty.txt")
    }
    assert errors == {
        "pipe.txt": [ReadFailure("pipe.txt", "is not a regular file but a pipe, socket or device")],
        "link.md": [ReadFailure("link.md", "cannot be read: No such file or directory")],
        "folder": [ReadFailure("folder", "is a folder that cannot be listed: check its permissions")],
        "a.exe": [ReadFailure("a.exe", f"has no known suffix: {', '.join(READERS)}")],
        "empty.txt": [ReadFailure("empty.txt", "is empty")],
    }


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """Root may read everything, so become nobody for a while."""
    path = tmp_path / "a.txt"
    path.touch(mode=0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    yield path
    os.seteuid(before)


def test_an_unreadable_file_is_a_failure(unreadable: Path) -> None:
    expected = ReadFailure("a.txt", "cannot be read: Permission denied")
    assert list(read_file(unreadable, unreadable.parent)) == [expected]


def test_a_file_over_the_limit_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result.read_whole, "__defaults__", (10,))
    (tmp_path / "a.txt").write_text("x" * 11)
    assert list(read_file(tmp_path / "a.txt", tmp_path)) == [
        ReadFailure("a.txt", "larger than 10 bytes, the limit for this format: split it")
    ]


def test_ids_are_relative_and_suffixes_have_no_case(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "A.v1.TXT").write_text("x")
    assert list(read_file(tmp_path / "sub" / "A.v1.TXT", tmp_path)) == [Document("sub/A.v1.TXT", "x", "A.v1")]


def test_a_name_that_is_not_utf8_is_a_failure(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("x")
    expected = ReadFailure("caf\N{REPLACEMENT CHARACTER}.txt", "has a name that is not UTF-8: rename it")
    assert list(read_file(path, tmp_path)) == [expected]
