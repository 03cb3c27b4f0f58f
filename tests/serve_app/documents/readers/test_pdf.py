from __future__ import annotations

import io

import pypdf
import pytest
from reportlab.pdfgen.canvas import Canvas

from serve_app.types import Document
from tests.serve_app.documents.readers.conftest import Read, failures, only


def pdf(*pages: str, title: str = "", password: str = "", owner: str = "") -> bytes:
    """A PDF with a line of text on each page; "" for a page without text."""
    made = io.BytesIO()
    canvas = Canvas(made)
    canvas.setTitle(title)
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    if not (password or owner):
        return made.getvalue()
    writer = pypdf.PdfWriter(clone_from=made)
    writer.encrypt(password, owner, algorithm="AES-256")
    encrypted = io.BytesIO()
    writer.write(encrypted)
    return encrypted.getvalue()


def test_pages_are_kept_apart(read: Read) -> None:
    document = only(read("a.pdf", pdf("First page.", "", "Third page.", title="Annual report")))
    metadata = {"pages": 3, "pages_without_text": [2]}
    assert document == Document("a.pdf", "First page.\n\nThird page.", "Annual report", metadata=metadata)


def test_a_password_is_asked_for_unless_it_is_empty(read: Read) -> None:
    assert failures(read("a.pdf", pdf("secret", password="pw"))) == [
        ("a.pdf", "is encrypted: save it without a password")
    ]
    assert only(read("a.pdf", pdf("open to read", owner="pw"))).text == "open to read"


def test_a_scan_is_a_failure_that_says_so(read: Read) -> None:
    ((_, error),) = failures(read("a.pdf", pdf("", "")))
    assert "none of its 2 pages has text" in error


@pytest.mark.parametrize("content", [b"no pdf", b"%PDF-1.7\n%%EOF", pdf("text")[:300], b"\x00" * 100])
def test_damage_is_a_failure(read: Read, content: bytes) -> None:
    assert len(failures(read("a.pdf", content))) == 1
