from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from serve_app.errors import InvalidInput
from serve_app.types import Document, JsonValue
from serve_app.validation import (
    ID_PATTERN,
    INT64,
    MAX_ID_CHARS,
    MAX_METADATA_DEPTH,
    MAX_SUBJECT_CHARS,
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
    NOT_IN_ID,
    document_fault,
    metadata_fault,
    storable,
    text_fault,
    validate,
)


def nested(levels: int) -> JsonValue:
    value: JsonValue = "leaf"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(INT64[0], INT64[-1]) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (Document("", "text"), "id is empty"),
        (Document(" \t", "text"), "id is empty"),
        (Document("x" * 513, "text"), "513 characters; at most 512"),
        (Document("a\x00b", "text"), "control character"),
        *(
            (Document(id, "text"), "path segment")
            for id in (".", "..", "a/../b", "../x", "a/.", "./a", "a/%2e%2E", "a\\..")
        ),
        (Document("a\ud800", "text"), "surrogate"),
        (Document("a", " \n"), "give it a text or a title"),
        (Document("a", "text", metadata={"price": math.nan}), "metadata.price is nan"),
        (Document("a", "text", metadata={"a": [1, {"b": math.inf}]}), r"metadata.a\[1\].b is inf"),
        (Document("a", "text", metadata={"n": 2**63}), "does not fit 64 bits"),
        (Document("a", "text", metadata={"s": "\udfff"}), "metadata.s has a NUL or half"),
        (Document("a", "text", metadata={"\x00": 1}), "key that is not plain text"),
        (Document("a", "text", metadata={"deep": nested(5_000)}), "deeper than 16"),
        (Document("a", "text", metadata={"when": object()}), "metadata.when is a object, which is not JSON"),  # type: ignore[dict-item]
        (Document("a", "text", metadata={1: "x"}), "key that is not plain text: 1"),  # type: ignore[dict-item]
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(document: Document, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        validate(document)


@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5), JSON, max_size=3))
def test_json_is_accepted(metadata: dict[str, Any]) -> None:
    validate(Document("a", "text", metadata=metadata))


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_a_storable_document_is_utf8_without_nul(text: str, title: str) -> None:
    mended = storable(Document("a", text, title))
    assert "\x00" not in mended.text + mended.title
    json.dumps([mended.text, mended.title], ensure_ascii=False).encode()


def test_good_text_is_left_alone() -> None:
    document = Document("a", "tab\t, form feed\f, cafe\u0301 🙂")
    assert storable(document) is document


@pytest.mark.parametrize(
    ("field", "most"),
    [("id", MAX_ID_CHARS), ("title", MAX_TITLE_CHARS), ("url", MAX_URL_CHARS), ("subject", MAX_SUBJECT_CHARS)],
)
def test_lengths_at_their_bounds(field: str, most: int) -> None:
    document = Document("a", "text")
    assert document_fault(replace(document, **{field: "x" * most})) == ""
    assert f"{most + 1} characters; at most {most}" in document_fault(replace(document, **{field: "x" * (most + 1)}))


@pytest.mark.parametrize("levels", [0, 1, 2, MAX_METADATA_DEPTH - 1, MAX_METADATA_DEPTH, MAX_METADATA_DEPTH + 1])
def test_depth_at_its_bound(levels: int) -> None:
    """metadata itself is the first level; how deep it is does not depend on whether the last level is empty."""
    assert ("deeper than 16" in metadata_fault({"x": nested(levels)})) is (levels + 1 > MAX_METADATA_DEPTH)
    empty: JsonValue = []
    for _ in range(MAX_METADATA_DEPTH - 2):
        empty = [empty]
    assert metadata_fault({"x": empty}) == ""
    assert "deeper than 16" in metadata_fault({"x": [empty]})


def test_integers_at_their_bounds() -> None:
    assert (INT64[0], INT64[-1]) == (-(2**63), 2**63 - 1)
    assert metadata_fault({"least": INT64[0], "most": INT64[-1], "yes": True}) == ""
    assert "metadata.n does not fit 64 bits" in metadata_fault({"n": INT64[0] - 1})
    assert "metadata.n does not fit 64 bits" in metadata_fault({"n": INT64[-1] + 1})


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5))
def test_the_pattern_of_the_api_s_schema_agrees_with_the_judge(id: str) -> None:
    try:
        TypeAdapter(Annotated[str, Field(pattern=ID_PATTERN)]).validate_python(id)
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted is (NOT_IN_ID.search(id) is None)


def test_text_that_cannot_be_encoded_is_found_in_every_field() -> None:
    document = Document("a", "text")
    assert text_fault(document) == ""
    for name in ("id", "text", "title", "url", "subject"):
        assert text_fault(replace(document, **{name: "half \ud800"})).startswith(f"{name} has half")
