"""PDF: the text of each page, extracted by pypdf. A scan needs a text layer (OCR) first."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pypdf

from serve_app.documents.encoding import clean
from serve_app.documents.readers.result import ReadFailure, ReadResult, failure_of, read_whole, result_of
from serve_app.errors import UnreadableDocument
from serve_app.types import Document, JsonValue


def read_pdf(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document with a blank line between pages, and a failure for each page that cannot be read. Metadata:
    `pages`, and `pages_without_text` if some have none. The title is that in the PDF, else the file's name."""
    pdf = pypdf.PdfReader(io.BytesIO(read_whole(path)))
    if pdf.is_encrypted and not pdf.decrypt(""):
        raise UnreadableDocument("is encrypted: save it without a password")
    texts: list[str] = []
    silent: list[JsonValue] = []
    for number in range(1, len(pdf.pages) + 1):
        try:
            text = clean(pdf.pages[number - 1].extract_text()).strip()
        except Exception as error:  # pypdf raises many types of errors on damaged files
            yield failure_of(f"{document_id}#page={number}", error)
            text = ""
        if text:
            texts.append(text)
        else:
            silent.append(number)
    if not texts:
        yield ReadFailure(document_id, f"none of its {len(pdf.pages)} pages has text: run OCR on the scan first")
        return
    metadata: dict[str, JsonValue] = {"pages": len(pdf.pages)}
    if silent:
        metadata["pages_without_text"] = silent
    title = _title(pdf) or path.stem
    yield result_of(document_id, lambda: Document(document_id, "\n\n".join(texts), title, metadata=metadata))


def _title(pdf: pypdf.PdfReader) -> str:
    try:
        return " ".join(clean((pdf.metadata and pdf.metadata.title) or "").split())
    except Exception:  # damaged metadata is no reason to lose the text
        return ""
