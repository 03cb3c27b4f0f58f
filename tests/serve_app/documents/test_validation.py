from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.validation import storable, validate
from serve_app.errors import InvalidInput
from serve_app.types import Document

NESTED: Any = "leaf"
for _ in range(40):
    NESTED = [NESTED]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
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
        (Document("a\ud800", "text"), "surrogate"),
        (Document("a", " \n"), "give it a text or a title"),
        (Document("a", "text", metadata={"price": math.nan}), "metadata.price is nan"),
        (Document("a", "text", metadata={"a": [1, {"b": math.inf}]}), r"metadata.a\[1\].b is inf"),
        (Document("a", "text", metadata={"n": 2**63}), "does not fit 64 bits"),
        (Document("a", "text", metadata={"s": "\udfff"}), "metadata.s has a NUL or half"),
        (Document("a", "text", metadata={"\x00": 1}), "key that is not plain text"),
        (Document("a", "text", metadata={"deep": NESTED}), "deeper than 16"),
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
