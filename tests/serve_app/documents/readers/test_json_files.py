from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.readers import json_files
from serve_app.documents.readers.records import document_of
from serve_app.types import Document
from serve_app.validation import validate
from tests.serve_app.documents.readers.conftest import Read, failures, only

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=4), one, max_size=3)
)


def test_the_shape_of_our_own_api(read: Read) -> None:
    record = {"id": "7", "text": "body", "title": "T", "url": "u", "metadata": {"a": [1]}, "subject": "anna"}
    expected = Document("7", "body", "T", "u", {"a": [1]}, "anna")
    assert only(read("a.json", json.dumps(record))) == expected
    assert read("a.json", json.dumps({"documents": [record, record]})) == [expected, expected]
    assert only(read("a.jsonl", json.dumps(record))) == expected


def test_beir_and_other_fields(read: Read) -> None:
    line = '{"_id": 31, "title": "T", "text": "body", "metadata": {}, "year": 2020, "score": NaN, "none": null}'
    assert only(read("corpus.jsonl", line)) == Document("31", "body", "T", metadata={"year": 2020})


def test_an_object_without_text_is_written_out(read: Read) -> None:
    document = only(read("a.json", '{"name": "Lamp", "tags": ["x"], "price": 3.5}'))
    assert document.text == 'name: Lamp\ntags: ["x"]\nprice: 3.5'
    assert document.metadata == {"name": "Lamp", "tags": ["x"], "price": 3.5}


def test_line_separators_in_a_string_are_json(read: Read) -> None:
    content = '{"text": "one\u2028two\u0085three"}'
    assert only(read("a.json", content)).text == only(read("a.jsonl", content)).text == "one\ntwo\nthree"


def test_a_bad_line_is_one_failure(read: Read) -> None:
    rows = [
        b'{"text": "one"}',
        b"{broken",
        b'{"text": "caf\xe9\x00"}',
        b"[1]",
        b"",
        b'{"text": ""}',
        b"[" * 100_000,
        b'{"text": "\\ud800 six"}',
    ]
    results = read("a.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(rows))
    documents = [one for one in results if isinstance(one, Document)]
    assert [(one.id, one.text) for one in documents] == [
        ("a.jsonl#1", "one"),
        ("a.jsonl#8", "\N{REPLACEMENT CHARACTER} six"),
    ]
    failed = failures(results)
    assert [source for source, _ in failed] == [f"a.jsonl#{row}" for row in (2, 3, 4, 6, 7)]
    for (_, error), said in zip(
        failed, ["is not JSON", "not valid UTF-8", "not list", "is empty", "is not JSON"], strict=True
    ):
        assert said in error


def test_an_overlong_line_is_one_failure(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_RECORD_CHARS", 100)
    results = read("a.jsonl", '{"text": "a"}\n{"text": "' + "x" * 1000 + '"}\n{"text": "b"}\n')
    assert [one.text for one in results if isinstance(one, Document)] == ["a", "b"]
    assert [source for source, _ in failures(results)] == ["a.jsonl#2"]


def test_gzip_and_its_damage(read: Read) -> None:
    lines = "".join(f'{{"id": "{number}", "text": "text {number} é"}}\n' for number in range(5000))
    packed = gzip.compress(lines.encode())
    assert len(read("a.jsonl.gz", packed)) == 5000
    results = read("a.jsonl.gz", packed[: len(packed) // 2])
    assert len(results) > 100
    assert len(failures(results)) == 1
    assert "EOFError" in failures(results)[0][1]
    assert len(failures(read("a.jsonl.gz", b"not gzip {"))) == 1


def test_utf_16(read: Read) -> None:
    assert only(read("a.jsonl", '{"text": "é"}\n'.encode("utf-16"))).text == "é"


@pytest.mark.parametrize("content", ["", "[]", "3", '"text"', "{", "\x00", "null", "[" * 100_000])
def test_json_that_holds_no_object_is_a_failure(read: Read, content: str) -> None:
    assert len(failures(read("a.json", content))) == 1


@pytest.mark.parametrize("content", ["\n\n", "plain text\nof two lines", "[1, 2]"])
def test_json_lines_without_an_object_are_one_failure(read: Read, content: str) -> None:
    assert len(failures(read("a.jsonl", content))) == 1


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(["_id", "text", "Title", "metadata"]), JSON, max_size=5))
def test_any_record_becomes_valid_json(record: dict[str, object]) -> None:
    document = document_of(record, "file#1")
    json.dumps(dict(document.metadata), allow_nan=False).encode()
    if len(document.id) <= 512 and (document.text.strip() or document.title.strip()) and document.id.strip():
        validate(document)


def test_a_subject_without_the_apis_shape_is_a_headline(read: Read) -> None:
    mail = {"id": "7", "subject": "Gearbox", "text": "It makes a noise", "from": "anna"}
    assert only(read("a.json", json.dumps(mail))) == Document(
        "7", "It makes a noise", "Gearbox", metadata={"subject": "Gearbox", "from": "anna"}
    )


def test_numbers_keep_their_digits(read: Read) -> None:
    numbers = '"a": 12345678901234567.89, "b": 0.1, "c": 1e400, "d": 123456789012345678901, "e": 1E2, "f": -0.0'
    assert only(read("a.json", f'{{"text": "x", {numbers}}}')).metadata == {
        "a": "12345678901234567.89",
        "b": 0.1,
        "c": "1E+400",
        "d": "123456789012345678901",
        "e": 100.0,
        "f": 0.0,
    }


def test_a_key_that_is_there_twice_is_a_failure(read: Read) -> None:
    ((source, error),) = failures(read("a.jsonl", '{"id": 1, "text": "a", "text": "b"}\n'))
    assert source == "a.jsonl#1" and "'text' occurs twice" in error
    assert len(failures(read("a.json", '[{"text": "a", "m": {"k": 1, "k": 2}}]'))) == 1
