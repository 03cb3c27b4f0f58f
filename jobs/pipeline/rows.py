"""What flows between the stages of the indexing pipeline: one row is one document with all of its passages.

Rows go in blocks of BLOCK, whose one row holds them all. Ray Data joins and cuts blocks by their bytes, but not within
a row: so a block stays what its stage made, and a stage that is repeated gives as many blocks as before.

All stages use the one SCHEMA; what a stage has not filled in yet is empty. Byte columns are little-endian:

```text
document        orjson of title, text, url, metadata, subject
passages        list of (number, text, headings, tokens)
texts           what the engine sees of each passage, null where its vector is known; empty again once embedded
digests         of what the engine sees of each passage
dense           float32 [passages][dim], row after row; zero where not embedded yet, or empty
sparse_sizes    terms of each passage, in order
sparse_indices  uint32, the passages' terms one after the other
sparse_values   float32, as many
```
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import starmap
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from serve_app.types import Document, IndexedDocument, IndexedPassage, Passage, SparseVector

PASSAGE = pa.struct(
    [("number", pa.int32()), ("text", pa.string()), ("headings", pa.list_(pa.string())), ("tokens", pa.int32())]
)
SCHEMA = pa.schema(
    [
        ("outcome", pa.string()),
        ("input", pa.string()),
        ("document_id", pa.string()),
        ("source", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_documents", pa.int64()),
        ("error", pa.string()),
        ("replaces", pa.bool_()),
        ("embedded", pa.int32()),
        ("fingerprint", pa.string()),
        ("document", pa.binary()),
        ("passages", pa.list_(PASSAGE)),
        ("texts", pa.list_(pa.string())),
        ("digests", pa.list_(pa.string())),
        ("dense", pa.binary()),
        ("sparse_sizes", pa.list_(pa.int32())),
        ("sparse_indices", pa.binary()),
        ("sparse_values", pa.binary()),
    ]
)
BLOCK = pa.schema([("rows", pa.list_(pa.struct(list(SCHEMA))))])


class RowOutcome(StrEnum):
    INDEX = "index"  # to be embedded and written
    UNCHANGED = "unchanged"  # stored as it is
    FAILED = "failed"  # `error` says why
    END = "end"  # no document: an input has been read to its end


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """A row of SCHEMA in Python. input: its name. source_bytes: the part of the input that it stands for; those of one
    input add up to its size. source_documents: on an END row, how many rows it follows, so that the end of the run can
    tell that none was lost on the way. source: where a failure is, for people. replaces: another version is stored.
    embedded: how many of its passages the engine had to see."""

    outcome: RowOutcome
    input: str
    document_id: str = ""
    source_bytes: int = 0
    source_documents: int = 0
    source: str = ""
    error: str = ""
    replaces: bool = False
    embedded: int = 0
    fingerprint: str = ""
    document: bytes = b""
    passages: tuple[Passage, ...] = ()
    texts: tuple[str | None, ...] = ()
    digests: tuple[str, ...] = ()
    dense: bytes = b""
    sparse: tuple[SparseVector, ...] = ()


def failed_row(input: str, document_id: str, error: str, source_bytes: int = 0, source: str = "") -> PipelineRow:
    """source: the input if it is not given. Names and messages may quote what is no text, such as half of a surrogate
    pair: it is spelt out."""
    source, document_id, error = (
        part.encode(errors="backslashreplace").decode() for part in (source or input, document_id, error)
    )
    return PipelineRow(RowOutcome.FAILED, input, document_id, source_bytes, source=source, error=error)


def encode_document(document: Document) -> bytes:
    """Without the id, which has its own column. Raises orjson.JSONEncodeError on what JSON does not have."""
    return orjson.dumps(
        {
            "text": document.text,
            "title": document.title,
            "url": document.url,
            "metadata": dict(document.metadata),
            "subject": document.subject,
        }
    )


def indexed_document(row: PipelineRow) -> IndexedDocument:
    """A row to INDEX which all stages have been through, so it has passages, as the store takes it."""
    document = Document(id=row.document_id, **orjson.loads(row.document))
    dense = np.frombuffer(row.dense, np.float32).reshape(len(row.passages), -1)
    items = zip(row.passages, dense, row.sparse, row.digests, strict=True)
    return IndexedDocument(document, row.fingerprint, tuple(starmap(IndexedPassage, items)))


def to_block(rows: Iterable[PipelineRow]) -> pa.Table:
    return pa.Table.from_pylist([{"rows": [_encoded(row) for row in rows]}], schema=BLOCK)


def from_block(block: pa.Table) -> list[PipelineRow]:
    return [_decoded(columns) for rows in block["rows"].to_pylist() for columns in rows]


def _encoded(row: PipelineRow) -> dict[str, Any]:
    return {
        "outcome": row.outcome.value,
        "input": row.input,
        "document_id": row.document_id,
        "source": row.source,
        "source_bytes": row.source_bytes,
        "source_documents": row.source_documents,
        "error": row.error,
        "replaces": row.replaces,
        "embedded": row.embedded,
        "fingerprint": row.fingerprint,
        "document": row.document,
        "passages": [
            {"number": p.number, "text": p.text, "headings": list(p.headings), "tokens": p.tokens} for p in row.passages
        ],
        "texts": list(row.texts),
        "digests": list(row.digests),
        "dense": row.dense,
        "sparse_sizes": [len(vector.indices) for vector in row.sparse],
        "sparse_indices": b"".join(vector.indices.astype("<u4").tobytes() for vector in row.sparse),
        "sparse_values": b"".join(vector.values.astype("<f4").tobytes() for vector in row.sparse),
    }


def _decoded(columns: dict[str, Any]) -> PipelineRow:
    sizes, indices, values = (columns.pop(f"sparse_{part}") for part in ("sizes", "indices", "values"))
    return PipelineRow(
        **{
            **columns,
            "outcome": RowOutcome(columns["outcome"]),
            "passages": tuple(_passage(**passage) for passage in columns["passages"]),
            "texts": tuple(columns["texts"]),
            "digests": tuple(columns["digests"]),
            "sparse": tuple(_sparse_vectors(sizes, indices, values)),
        }
    )


def _passage(number: int, text: str, headings: list[str], tokens: int) -> Passage:
    return Passage(number, text, tuple(headings), tokens)


def _sparse_vectors(sizes: Sequence[int], indices: bytes, values: bytes) -> Iterator[SparseVector]:
    ends = np.cumsum(sizes, dtype=np.int64)[:-1]
    if sizes:
        parts = np.split(np.frombuffer(indices, "<u4"), ends), np.split(np.frombuffer(values, "<f4"), ends)
        yield from starmap(SparseVector, zip(*parts, strict=True))
