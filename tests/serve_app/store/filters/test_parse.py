from __future__ import annotations

import json
import math
from typing import Any

import pytest

from serve_app.errors import InvalidInput
from serve_app.store.filters.parse import field_path, parse_filter, to_edge
from serve_app.types import JsonObject


def parse(raw: object, *, max_depth: int = 4, max_conditions: int = 20) -> JsonObject:
    return parse_filter(raw, max_depth=max_depth, max_conditions=max_conditions)


def must(**condition: Any) -> dict[str, Any]:
    return {"must": [condition]}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("document_id", "document_id"),
        ("headings[]", "headings[]"),
        ("metadata.year", "metadata.year"),
        ("year", "metadata.year"),
        ("authors[].name", "metadata.authors[].name"),
        ("authors[007]", "metadata.authors[7]"),
        ('"Publication Date"', 'metadata."Publication Date"'),
        ('"year"', "metadata.year"),
        ('"a.b"', 'metadata."a.b"'),
        ("größe", 'metadata."größe"'),
        ("metadata", "metadata.metadata"),
        ("metadata[0]", "metadata.metadata[0]"),
        ("kind", "metadata.kind"),
        ("fingerprint", "metadata.fingerprint"),
    ],
)
def test_field_path(name: str, path: str) -> None:
    assert field_path(name) == path
    assert field_path(path) == path


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "a[", "a[x]", "a[-1]", "a[0]b", "[0]", '"a', '""', '"a"b', "a\x00"),
        *("x" * 1_000, "a[99999999999999999999]", '"\ud800"'),
    ],
)
def test_malformed_field_path(name: str) -> None:
    with pytest.raises(InvalidInput):
        field_path(name)


def test_equal_filters_are_equal_json() -> None:
    one = {
        "must": {"key": "year", "range": {"gte": 2020, "lt": None}},
        "should": [
            {"key": "tag", "match": {"any": ["b", "a", "b"]}},
            {"is_null": {"key": "x"}},
            {"is_null": {"key": '"x"'}},
        ],
        "must_not": [],
    }
    other = {
        "should": [{"is_null": {"key": "metadata.x"}}, {"match": {"any": ["a", "b"]}, "key": "metadata.tag"}],
        "must": [{"range": {"gte": 2020.0}, "key": "metadata.year"}],
        "min_should": None,
    }
    assert json.dumps(parse(one)) == json.dumps(parse(other))


@pytest.mark.parametrize(
    "text",
    ["2024-05-01T00:00:00Z", "2024-05-01", "2024-05-01t02:00:00.000+02:00", "2024-05-01 00:00", "2024-05-01T00:00z"],
)
def test_instants_are_utc(text: str) -> None:
    expected = must(key="metadata.day", range={"lt": "2024-05-01T00:00:00.000000Z"})
    assert parse(must(key="day", range={"lt": text})) == expected


def test_a_filter_of_the_client_is_understood() -> None:
    """Its models write every field that they have, most as null."""
    condition = {"key": "year", "match": {"value": 2024}, "range": None, "geo_radius": None, "is_empty": None}
    expected = must(key="metadata.year", match={"value": 2024})
    assert parse({"must": [condition], "should": None, "must_not": None, "min_should": None}) == expected


def test_repeated_conditions_count_twice_in_min_should() -> None:
    twice = {"conditions": [{"is_null": {"key": "a"}}] * 2, "min_count": 2}
    assert len(parse({"min_should": twice})["min_should"]["conditions"]) == 2  # type: ignore[index,call-overload,arg-type]


def test_keys_inside_nested_are_those_of_the_element() -> None:
    inner = must(key="name", match={"value": "Ada"})
    expected = must(nested={"key": "metadata.authors[]", "filter": inner})
    assert parse(must(nested={"key": "authors", "filter": inner})) == expected
    assert parse(expected) == expected


REFUSED: list[tuple[object, str]] = [
    (None, "filter: must be an object"),
    ([], "filter: must be an object"),
    ({"key": "a", "match": {"value": 1}}, "filter: unknown field 'key'"),
    ({"must": 1}, "must: must be a list"),
    ({"must": [1]}, "must[0]: must be an object"),
    ({"must": [{}]}, "must[0]: is not a condition"),
    ({"should": [{"must": []}]}, "should[0]: is empty"),
    (must(has_id=["x"]), "must[0]: has_id is not supported; filter by the field"),
    (must(key="a", geo_radius={}), "must[0]: geo_radius is not supported"),
    (must(key="a"), "must[0]: has exactly one of match"),
    (must(key="a", match={"value": 1}, range={"gt": 1}), "must[0]: has exactly one of match"),
    (must(key="a", match={"value": 1}, boost=2), "must[0]: unknown field 'boost'"),
    (must(key=3, match={"value": 1}), "must[0].key: must be a field's name"),
    (must(key="a b", match={"value": 1}), "must[0].key: 'a b' is not a field's name"),
    (must(key="a", match={}), "must[0].match: has exactly one of"),
    (must(key="a", match={"value": 1.5}), "must[0].match.value: must be a string or an integer, not 1.5; use range"),
    (must(key="a", match={"value": 2**63}), "must[0].match.value: must be an integer of 64 bits"),
    (must(key="a", match={"value": "\udfff"}), "must[0].match.value: has half of a surrogate pair"),
    (must(key="a", match={"any": []}), "must[0].match.any: must be a list with at least one value"),
    (must(key="a", match={"any": ["x", 1]}), "must[0].match.any: must be all strings or all integers"),
    (must(key="a", match={"except": [True]}), "must[0].match.except[0]: must be a string or an integer"),
    (must(key="a", match={"text": "?"}), "must[0].match.text: must be a string with a letter"),
    (must(key="a", range={}), "must[0].range: has at least one of gt"),
    (must(key="a", range={"gte": math.nan}), "must[0].range.gte: must be a finite number"),
    (must(key="a", range={"gte": math.inf}), "must[0].range.gte: must be a finite number"),
    (must(key="a", range={"gte": 10**400}), "must[0].range.gte: must be a finite number"),
    (must(key="a", range={"gte": True}), "must[0].range.gte: must be a finite number"),
    (must(key="a", range={"gte": "yesterday"}), "must[0].range.gte: must be an RFC 3339 date"),
    (must(key="a", range={"gte": "0001-01-01T00:00:00+02:00"}), "must[0].range.gte: must be an RFC 3339 date"),
    (must(key="a", range={"gte": 1, "lt": "2024-01-01"}), "must[0].range: must be all numbers or all dates"),
    (must(key="a", values_count={"gt": -1}), "must[0].values_count.gt: must be an integer from 0"),
    (must(key="a", values_count={"gt": 1.0}), "must[0].values_count.gt: must be an integer from 0"),
    (must(is_empty="a"), "must[0].is_empty: must be an object with key"),
    (must(is_null={"key": "a", "x": 1}), "must[0].is_null: unknown field 'x'"),
    (must(nested={"key": "a"}), "must[0].nested.filter: must be an object"),
    (must(nested={"key": "a", "filter": {}}), "must[0].nested.filter: is empty"),
    ({"min_should": {"conditions": [], "min_count": 1}}, "min_should.min_count: must be 1 to 0"),
    (
        {"min_should": {"conditions": [{"is_null": {"key": "a"}}], "min_count": 0}},
        "min_should.min_count: must be 1 to 1",
    ),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refusal_names_the_place(raw: object, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(raw)
    assert str(error.value).startswith(message)


def nested_filter(depth: int) -> dict[str, Any]:
    raw = must(is_null={"key": "a"})
    for _ in range(depth - 1):
        raw = {"must": [raw]}
    return raw


def test_depth_has_a_limit() -> None:
    assert to_edge(parse(nested_filter(4), max_depth=4))
    with pytest.raises(InvalidInput, match="nested 4 deep"):
        parse(nested_filter(5), max_depth=4)
    with pytest.raises(InvalidInput, match="nested 4 deep"):  # and not a RecursionError
        parse(nested_filter(50_000), max_depth=4)


def test_number_of_conditions_has_a_limit() -> None:
    condition = {"key": "a", "match": {"value": 1}}
    parse({"must": [condition] * 3, "min_should": {"conditions": [condition] * 2, "min_count": 1}}, max_conditions=5)
    with pytest.raises(InvalidInput, match="at most 4 conditions"):
        parse({"must": [condition] * 3, "should": [{"must": [condition]}]}, max_conditions=4)
