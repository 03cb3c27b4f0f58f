"""The file format of an exported collection: one row for each document, with its passages and their vectors.

```text
.parquet             SCHEMA; the header is in the schema's metadata under "ai-docs"
.jsonl, .jsonl.gz    the header in the first line, then one document in each line, with the same fields; the last line
                     is {"end": number of documents}, and a file without it is incomplete

header   {"format": 1, "space": {"model", "revision", "dim"}, "documents": count when the export began}
```
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.errors import InvalidInput
from serve_app.types import Document, IndexedDocument, IndexedPassage, Passage, SparseVector, VectorSpace
from serve_app.validation import validate

FORMAT = 1
DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)
HEADER_KEY = b"ai-docs"
BATCH_DOCUMENTS = 64
SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")

PASSAGE = pa.struct(
    [
        ("number", pa.int32()),
        ("text", pa.string()),
        ("headings", pa.list_(pa.string())),
        ("digest", pa.string()),
        ("dense", pa.list_(pa.float32())),
        ("sparse_indices", pa.list_(pa.uint32())),
        ("sparse_values", pa.list_(pa.float32())),
    ]
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "title", "url", "text", "subject")),
        ("metadata", pa.string()),  # JSON, because each document has its own fields
        ("fingerprint", pa.string()),
        ("passages", pa.list_(PASSAGE)),
    ]
)


@dataclass(frozen=True, slots=True)
class Header:
    """documents: how many there were when the export began, for a progress bar."""

    space: VectorSpace
    documents: int

    def to_json(self) -> bytes:
        return orjson.dumps({"format": FORMAT, "space": asdict(self.space), "documents": self.documents})

    @classmethod
    def from_json(cls, line: bytes, path: Path) -> Header:
        """Raises InvalidInput."""
        try:
            row = orjson.loads(line)
            if row["format"] != FORMAT:
                raise InvalidInput(f"{path} has format {row['format']}, but this version reads format {FORMAT}")
            return cls(VectorSpace(**row["space"]), int(row["documents"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{path} is not an export of a collection: it does not begin with a header") from error


Write = Callable[[Sequence[IndexedDocument]], None]


def require_known_suffix(path: Path) -> None:
    if not path.name.lower().endswith(SUFFIXES):
        raise InvalidInput(f"{path}: the file's name must end in one of {', '.join(SUFFIXES)}")


@contextmanager
def writing(path: Path, header: Header) -> Iterator[Write]:
    """Write the file. It appears when the context ends; after an error the path is unchanged. Raises OSError."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, which selects compression
    try:
        opened = _open_parquet if path.suffix.lower() == ".parquet" else _open_lines
        with opened(partial, header) as write:
            yield write
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _open_parquet(path: Path, header: Header) -> Iterator[Write]:
    schema = SCHEMA.with_metadata({HEADER_KEY: header.to_json()})
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        yield lambda documents: file.write_table(pa.Table.from_pylist([*map(to_row, documents)], schema=schema))


@contextmanager
def _open_lines(path: Path, header: Header) -> Iterator[Write]:
    with _lines(path, "wb") as file:
        file.write(header.to_json() + b"\n")
        written = 0

        def write(documents: Sequence[IndexedDocument]) -> None:
            nonlocal written
            written += len(documents)
            options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
            file.writelines(orjson.dumps(to_row(each), option=options) for each in documents)

        yield write
        file.write(orjson.dumps({"end": written}) + b"\n")


@contextmanager
def reading(path: Path) -> Iterator[tuple[Header, Iterator[list[IndexedDocument]]]]:
    """The header, and the documents in batches. Reading either raises InvalidInput if the file is damaged."""
    with ExitStack() as stack:
        try:
            if path.suffix.lower() == ".parquet":
                file = stack.enter_context(pq.ParquetFile(path))
                header = Header.from_json((file.schema_arrow.metadata or {}).get(HEADER_KEY, b""), path)
                rows: Iterator[Mapping[str, Any]] = (
                    row for batch in file.iter_batches(BATCH_DOCUMENTS) for row in batch.to_pylist()
                )
            else:
                lines = stack.enter_context(_lines(path, "rb"))
                header = Header.from_json(lines.readline(), path)
                rows = _rows(lines)
        except DAMAGE as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error
        yield header, _batches(path, rows)


def _lines(path: Path, mode: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, mode) if path.suffix.lower() == ".gz" else path.open(mode))


def _rows(lines: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    """Raises EOFError if the last line is missing, ValueError for a line that is not a JSON object."""
    for read, line in enumerate(lines):
        row = orjson.loads(line)
        if not isinstance(row, dict):
            raise ValueError("a line is not a JSON object")
        if row.get("end") == read:
            return
        yield row
    raise EOFError("it ends before its last line")


def _batches(path: Path, rows: Iterator[Mapping[str, Any]]) -> Iterator[list[IndexedDocument]]:
    number = 0
    while True:
        try:
            batch = [from_row(row) for row in islice(rows, BATCH_DOCUMENTS)]
        except (*DAMAGE, KeyError, TypeError, ValueError, InvalidInput) as error:
            raise InvalidInput(f"{path} is damaged after document {number}: {type(error).__name__}: {error}") from error
        if not batch:
            return
        number += len(batch)
        yield batch


def to_row(indexed: IndexedDocument) -> dict[str, Any]:
    document = indexed.document
    return {
        **{name: getattr(document, name) for name in ("id", "title", "url", "text", "subject")},
        "metadata": orjson.dumps(dict(document.metadata)).decode(),
        "fingerprint": indexed.fingerprint,
        "passages": [
            {
                "number": item.passage.number,
                "text": item.passage.text,
                "headings": list(item.passage.headings),
                "digest": item.digest,
                "dense": np.ascontiguousarray(item.dense, np.float32),
                "sparse_indices": np.ascontiguousarray(item.sparse.indices, np.uint32),
                "sparse_values": np.ascontiguousarray(item.sparse.values, np.float32),
            }
            for item in indexed.passages
        ],
    }


def from_row(row: Mapping[str, Any]) -> IndexedDocument:
    """Raises InvalidInput for a document that cannot be stored, ValueError, KeyError or TypeError for a damaged row."""
    fields = {name: row[name] for name in ("id", "title", "url", "text", "subject")}
    metadata = orjson.loads(row["metadata"])
    if not all(isinstance(value, str) for value in fields.values()) or not isinstance(metadata, dict):
        raise ValueError("a field of a document is not text, or its metadata is not an object")
    document = Document(**fields, metadata=metadata)
    validate(document)
    items = (
        IndexedPassage(
            Passage(item["number"], item["text"], tuple(item["headings"])),
            np.asarray(item["dense"], np.float32),
            SparseVector(np.asarray(item["sparse_indices"], np.uint32), np.asarray(item["sparse_values"], np.float32)),
            item["digest"],
        )
        for item in row["passages"]
    )
    return IndexedDocument(document, row["fingerprint"], tuple(items))
