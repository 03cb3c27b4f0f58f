"""The result of reading: a document, or the reason for its failure. A bad row never stops the rest of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import InvalidInput, UnreadableDocument
from serve_app.types import Document
from serve_app.validation import id_fault, validate

MAX_FILE_BYTES = 64 * 1024 * 1024  # for formats that are read as a whole


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """source: the file, with `#row` if one row failed. error: the reason and what to do about it. document_id: the id
    that the document would have had; "" if it is unknown."""

    source: str
    error: str
    document_id: str = ""


ReadResult = Document | ReadFailure
Reader = Callable[[Path, str], Iterator[ReadResult]]


def result_of(source: str, build: Callable[[], Document]) -> ReadResult:
    """The document if `build` returns a valid one, else a failure that names the source. Catches every exception,
    because parsers may raise any type on bad input."""
    document: Document | None = None
    try:
        document = build()
        validate(document)
    except InvalidInput as error:
        return ReadFailure(source, str(error), document.id if document and not id_fault(document.id) else "")
    except Exception as error:
        return failure_of(source, error)
    return document


def failure_of(source: str, error: Exception) -> ReadFailure:
    return ReadFailure(source, f"cannot be read: {type(error).__name__}: {str(error)[:300]}")


def read_whole(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Raises UnreadableDocument if the file is larger than `max_bytes`, OSError if it cannot be read."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UnreadableDocument(f"larger than {max_bytes} bytes, the limit for this format: split it")
    return content
