"""Tables, one document for each row: .csv and .tsv (also gzipped), .parquet."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from serve_app.documents.encoding import SAMPLE_BYTES, SURROGATE, clean, encoding_of
from serve_app.documents.readers.json_files import MAX_RECORD_CHARS, open_bytes
from serve_app.documents.readers.markdown_text import one_line
from serve_app.documents.readers.records import distinct, document_of
from serve_app.documents.readers.result import ReadFailure, ReadResult, failure_of, result_of
from serve_app.errors import UnreadableDocument

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = ",;\t|"
SAMPLE_ROWS = 50
PARQUET_BATCH_ROWS = 1024

csv.field_size_limit(MAX_RECORD_CHARS)  # the default refuses texts over 128 KiB


def read_csv(path: Path, document_id: str) -> Iterator[ReadResult]:
    """A document for each row under the header. Its id is `path#row` if no column has one. The delimiter is `,`, `;`,
    tab or `|`, as `delimiter_of` detects. A row with more fields than the header yields a failure."""
    with open_bytes(path) as raw:
        head = raw.read(SAMPLE_BYTES)
        encoding = encoding_of(head, whole=len(head) < SAMPLE_BYTES)
        raw.seek(0)
        lines = io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="")
        is_tsv = ".tsv" in path.suffixes
        yield from _rows(lines, document_id, delimiter_of(head.decode(encoding, errors="replace"), is_tsv=is_tsv))


def delimiter_of(head: str, *, is_tsv: bool = False) -> str:
    """The delimiter that splits most of the first rows into as many fields as the header. If several do equally well,
    the one that gives the most fields. is_tsv: prefer tab."""

    def fit(delimiter: str) -> tuple[bool, float, int]:
        rows = [row for row in _sample_rows(head, delimiter) if row]
        width = len(rows[0]) if rows else 0
        even = sum(len(row) == width for row in rows[1:]) / max(len(rows) - 1, 1)
        return width > 1, even + (0.5 if is_tsv and delimiter == "\t" else 0), width

    return max(DELIMITERS, key=fit)


def _sample_rows(head: str, delimiter: str) -> list[list[str]]:
    """The first rows without the last, which may be cut off, unless it is the only one after the header."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(
            islice(csv.reader(io.StringIO(head.lstrip("\ufeff"), newline=""), delimiter=delimiter), SAMPLE_ROWS)
        )
    return rows[:-1] if len(rows) > 2 and len(rows) < SAMPLE_ROWS else rows


def _rows(lines: TextIO, document_id: str, delimiter: str) -> Iterator[ReadResult]:
    first = lines.readline(MAX_RECORD_CHARS).lstrip("\ufeff")
    table = csv.reader(_bounded_lines(first, lines), delimiter=delimiter, strict=True)
    names = (one_line(clean(name)) or f"column {number}" for number, name in enumerate(next(table, []), start=1))
    header = distinct(names)
    row = 0
    while True:
        row += 1
        source = f"{document_id}#{row}"
        try:
            fields = next(table, None)
        except csv.Error as error:
            yield ReadFailure(source, f"is not CSV: {error} (line {table.line_num})")
            if "field limit" in str(error):  # an unclosed quote: the rest of its text would be read as rows
                return
            continue
        except (OSError, EOFError, zlib.error, UnreadableDocument) as error:
            yield failure_of(source, error)
            return
        if fields is None:
            break
        if fields:  # a blank line has no fields
            yield _row(source, header, fields)
    if row == 1:
        yield ReadFailure(document_id, "has no rows under a header")


def _row(source: str, header: list[str], fields: list[str]) -> ReadResult:
    if len(fields) > len(header):
        return ReadFailure(source, f"has {len(fields)} fields, the header has {len(header)}: quote the delimiter")
    if any(SURROGATE.search(field) for field in fields):
        return ReadFailure(source, "has bytes that are not in the file's encoding: save the file as UTF-8")
    return result_of(source, lambda: document_of(dict(zip(header, fields, strict=False)), source))


def _bounded_lines(first: str, lines: TextIO) -> Iterator[str]:
    line = first
    while line:
        if len(line) >= MAX_RECORD_CHARS:
            raise UnreadableDocument(f"a line is longer than {MAX_RECORD_CHARS} characters: split the document")
        yield line
        line = lines.readline(MAX_RECORD_CHARS)


def read_parquet(path: Path, document_id: str) -> Iterator[ReadResult]:
    """A document for each row, by the same rules as CSV. Rows are read in batches, so the file may have any length."""
    import pyarrow.parquet  # takes 0.3 s, which other formats should not pay

    with pyarrow.parquet.ParquetFile(path) as file:
        row = 0
        if not file.metadata.num_rows:
            yield ReadFailure(document_id, "has no rows")
        for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
            for number in range(batch.num_rows):
                row += 1
                yield _parquet_row(f"{document_id}#{row}", batch, number)


def _parquet_row(source: str, batch: pyarrow.RecordBatch, number: int) -> ReadResult:
    """Converts values one by one, so that one which Python cannot represent (the year 99,999) fails only its row."""
    return result_of(
        source,
        lambda: document_of(
            dict(zip(distinct(batch.schema.names), (column[number].as_py() for column in batch.columns), strict=True)),
            source,
        ),
    )
