from __future__ import annotations

import pytest

from serve_app.types import Document
from tests.serve_app.documents.readers.conftest import Read, failures, only


def test_text_keeps_its_words_and_is_named_after_the_file(read: Read) -> None:
    assert only(read("notes.txt", "one\r\ntwo\x00\x07")) == Document("notes.txt", "one\ntwo", "notes")


def test_markdown_takes_its_title_from_the_first_heading(read: Read) -> None:
    text = "intro\n\n## Not this\n\n# The *Guide*\n\nbody"
    assert only(read("a.md", text)) == Document("a.md", text, "The Guide")


def test_front_matter_becomes_metadata(read: Read) -> None:
    head = "title: T\nurl: http://x\ntags: [a, b]\ndate: 2024-05-01\nprice: .nan\nn: 3\n"
    document = only(read("a.md", f"---\n{head}---\n# Heading\n"))
    metadata = {"tags": ["a", "b"], "date": "2024-05-01", "price": None, "n": 3}
    assert document == Document("a.md", "# Heading\n", "T", "http://x", metadata)


def test_a_subject_in_front_matter_is_a_headline_and_no_person(read: Read) -> None:
    document = only(read("a.md", "---\nsubject: Gearbox quorum\n---\n# Other\nIt makes a noise\n"))
    assert document == Document(
        "a.md", "# Other\nIt makes a noise\n", "Gearbox quorum", metadata={"subject": "Gearbox quorum"}
    )


def test_images_inside_the_text_are_left_out(read: Read) -> None:
    data = "A" * 5_000
    assert only(read("a.md", f"Oiled.\n\n![w](data:image/png;base64,{data}==) end")).text == "Oiled.\n\n![w]() end"


@pytest.mark.parametrize(
    "front",
    [
        "---\nnot: [closed\n---\nbody",
        "---\njust text\n---\nbody",
        "---\na: &x [1]\nb: *x\n---\nbody",
        "---\nopen: end\nbody",
        "---\nkey: 1\nkey: 2\n---\nbody",
    ],
)
def test_what_is_not_a_mapping_stays_text(read: Read, front: str) -> None:
    assert only(read("a.md", front)).text == front


def test_a_binary_called_md_is_a_failure(read: Read) -> None:
    for content in (
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
        bytes(range(128, 256)) * 20,
        b"\x7fELF\x02\x01\x01" + bytes(99),
    ):
        ((source, error),) = failures(read("a.md", content))
        assert source == "a.md"
        assert "looks binary" in error
