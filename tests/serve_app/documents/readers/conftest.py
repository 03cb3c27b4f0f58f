from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.documents.readers.result import ReadFailure, ReadResult
from serve_app.documents.reading import read_file
from serve_app.types import Document

Read = Callable[[str, bytes | str], list[ReadResult]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file of that name and read it."""

    def write_and_read(name: str, content: bytes | str) -> list[ReadResult]:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_file(tmp_path / name, tmp_path))

    return write_and_read


def only(results: list[ReadResult]) -> Document:
    (document,) = results
    assert isinstance(document, Document), document
    return document


def failures(results: list[ReadResult]) -> list[tuple[str, str]]:
    return [(one.source, one.error) for one in results if isinstance(one, ReadFailure)]
