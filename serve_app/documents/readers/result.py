"""What reading gives: a document, or the reason why there is none. A bad row is one failure, never a dead file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import InvalidInput, UnreadableDocument
from serve_app.types import Document
from serve_app.validation import id_fault, validate

MAX_FILE_BYTES = 64 * 1024 * 1024  # of a format that is read as a whole


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """source: the file, with `#row` where it is one row of it. error: says what to do. document_id: of the document
    that it would have been, "" where that is not known."""

    source: str
    error: str
    document_id: str = ""


ReadResult = Document | ReadFailure
Reader = Callable[[Path, str], Iterator[ReadResult]]


def result_of(source: str, build: Callable[[], Document]) -> ReadResult:
    """The document if it can be built and is valid. The libraries that parse may raise anything on bad input; here
    it all becomes a failure that names its source."""
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
        raise UnreadableDocument(f"larger than {max_bytes} bytes, the most of this format: split it")
    return content
