"""JSON: .json is read as a whole; .jsonl and .ndjson (also gzipped) are read line by line and may have any length."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, TextIO

from serve_app.documents.encoding import SAMPLE_BYTES, SURROGATE, encoding_of, unicode_encoding
from serve_app.documents.readers.records import document_of
from serve_app.documents.readers.result import ReadFailure, ReadResult, failure_of, read_whole, result_of
from serve_app.errors import UnreadableDocument

MAX_RECORD_CHARS = 16 * 1024 * 1024  # in one line or row


def open_bytes(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def parse(text: str) -> object:
    """The parsed value; numbers keep all their digits. Raises ValueError if the text is not JSON or if an object has
    the same key twice, because one of the values would be lost."""
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:number]))
        raise ValueError(f"the key {twice!r:.80} occurs twice in one object")
    return content


def read_json(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document for an object. A list, or a list under `documents`, gives one document for each of its objects."""
    raw = read_whole(path)
    content = parse(raw.decode(encoding_of(raw)).removeprefix("\ufeff"))  # `document_of` cleans the values
    if isinstance(content, dict) and isinstance(content.get("documents"), list):
        content = content["documents"]
    if isinstance(content, dict):
        yield _result(document_id, content)
    elif isinstance(content, list) and content:
        for row, record in enumerate(content, start=1):
            yield _result(f"{document_id}#{row}", record)
    else:
        yield ReadFailure(document_id, "must be an object or a non-empty list of objects")


def read_json_lines(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document for each line that is not blank. Its id is `path#line` if the object has none."""
    with open_bytes(path) as raw:
        head = raw.read(SAMPLE_BYTES)
        encoding = unicode_encoding(head)
        if b"{" not in head:
            raise UnreadableDocument("does not begin with a JSON object: write one object per line")
        raw.seek(0)
        # An undecodable byte becomes a lone surrogate, so that only its own line fails.
        lines = io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="\n")
        yield from _lines(lines, document_id)


def _lines(lines: TextIO, document_id: str) -> Iterator[ReadResult]:
    number = 0
    found = False
    while True:
        number += 1
        source = f"{document_id}#{number}"
        try:
            line = lines.readline(MAX_RECORD_CHARS)
            overlong = len(line) == MAX_RECORD_CHARS and not line.endswith("\n")
            while overlong and (rest := lines.readline(MAX_RECORD_CHARS)) and not rest.endswith("\n"):
                pass
        except (OSError, EOFError, zlib.error) as error:
            yield failure_of(source, error)
            return
        if not line:
            break
        if overlong:
            yield ReadFailure(source, f"is longer than {MAX_RECORD_CHARS} characters: split the document")
        elif line.strip("\ufeff \t\r\n"):
            yield _line(source, line)
        found = found or bool(line.strip())
    if not found:
        yield ReadFailure(document_id, "has no rows")


def _line(source: str, line: str) -> ReadResult:
    if SURROGATE.search(line):
        return ReadFailure(source, "is not valid UTF-8")
    try:
        return _result(source, parse(line.strip("\ufeff \t\r\n")))
    except (ValueError, RecursionError) as error:
        return ReadFailure(source, f"is not JSON: {error}")


def _result(source: str, record: object) -> ReadResult:
    if not isinstance(record, dict):
        return ReadFailure(source, f"must be a JSON object, not {type(record).__name__}")
    return result_of(source, lambda: document_of(record, source))
