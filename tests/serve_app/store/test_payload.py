from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import InvalidInput
from serve_app.store.payload import (
    date_path,
    dates_in,
    document_payload,
    facet_counts,
    facet_path,
    facet_texts,
    require_storable,
    restrict,
    to_document,
)
from serve_app.types import Document, IndexedDocument, JsonValue
from serve_app.validation import INT64, MAX_METADATA_DEPTH

# Floats that need few digits, as Edge may change the last of seventeen.
floats = st.integers(-(10**6), 10**6).map(lambda n: n / 8)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
scalars = st.none() | st.booleans() | st.integers(INT64[0], INT64[-1]) | floats | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def nested(levels: int) -> JsonValue:
    value: JsonValue = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@given(st.text(), st.text(), st.dictionaries(st.text(), json_values))
def test_a_document_survives_its_payload(id: str, text: str, metadata: dict[str, JsonValue]) -> None:
    document = Document(id, text, "title", "url", metadata, "subject")
    assert to_document(document_payload(document, 3, "f")) == document
    assert "fingerprint" not in document_payload(document, 3, None)


@given(json_values)
def test_facets_have_only_texts(value: JsonValue) -> None:
    def leaves(value: object) -> list[object]:
        if isinstance(value, dict | list):
            return [leaf for inner in (value.values() if isinstance(value, dict) else value) for leaf in leaves(inner)]
        return [value]

    assert all(leaf is None or isinstance(leaf, str) for leaf in leaves(facet_texts(value)))


def test_facets_are_texts_that_cannot_be_confused() -> None:
    metadata: JsonValue = {"a": ["x", 1, 1.5, True, None, "1", "true", '"x"', "1.", "2024-01-01", ""]}
    texts = ["x", "1", "1.5", "true", None, '"1"', '"true"', '""x""', "1.", "2024-01-01", ""]
    assert facet_texts(metadata) == {"a": texts}
    assert facet_path("metadata.a[].b") == "facets.a[].b"
    assert facet_path("metadata_x") == "metadata_x"
    assert facet_path("title") == "title"


@given(st.tuples(scalars, scalars))
def test_equal_facet_texts_are_equal_values(pair: tuple[JsonValue, JsonValue]) -> None:
    one, other = pair
    assert (facet_texts(one) == facet_texts(other)) == (type(one) is type(other) and one == other)


def test_facet_counts_are_by_what_users_see() -> None:
    found = [("1", 2), ('"1"', 2), ("x", 3), ('""q""', 1)]
    assert list(facet_counts("metadata.a", found).items()) == [("1", 4), ("x", 3), ('"q"', 1)]
    assert facet_counts("title", [('"1"', 2)]) == {'"1"': 2}


def test_restrict_adds_to_a_filter() -> None:
    kind = {"key": "kind", "match": {"value": "passage"}}
    assert restrict(None, "passage") == {"must": [kind]} == restrict({}, "passage")
    mine = {"should": [{"key": "title", "match": {"value": "x"}}]}
    assert restrict(mine, "passage") == {"must": [kind, mine]}


def test_dates_are_what_begins_like_one() -> None:
    assert dates_in({"a": ["x", "2024-01-01", 1], "b": {"c": "2024-01-01T10:00:00Z", "d": "y"}, "e": {"f": 2024}}) == {
        "a": [None, "2024-01-01", None],
        "b": {"c": "2024-01-01T10:00:00Z"},
    }
    assert dates_in({"a": [], "b": "about 2024-01-01", "c": None}) is None
    assert [date_path(path) for path in ("metadata.at", "title", "number")] == ["dates.at", "title", "dates.number"]


@pytest.mark.parametrize("value", [nested(MAX_METADATA_DEPTH), {1, 2}, b"x", float("nan"), "\udc80", INT64.stop])
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    document = Document("the one", "text", metadata={"x": value})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="'the one'"):
        require_storable([IndexedDocument(document, "f", ())], 8)
