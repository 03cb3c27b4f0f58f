"""Parses users' filters: the part of Qdrant's filter JSON that has the same results in both stores.

    filter     {"must": [c…], "should": [c…], "must_not": [c…], "min_should": {"conditions": [c…], "min_count": n}}
    condition  {"key": f, "match": {"value": str|int|bool} | {"any": [str…]|[int…]} | {"except": …} | {"text": str}}
               {"key": f, "range": {"gt"|"gte"|"lt"|"lte": number, or RFC 3339 date or date-time}}
               {"key": f, "values_count": {"gt"|"gte"|"lt"|"lte": n}}
               {"is_empty": {"key": f}}   {"is_null": {"key": f}}
               {"nested": {"key": f, "filter": filter}}   a filter

As in Qdrant, a clause may be one condition instead of a list, `null` means absent, a date without a zone is UTC, and
a condition on a list holds if it holds for one element. `text` matches if the field has all words of the text, as whole
words, in any order and case. Not supported: has_id (filter by document_id), has_vector, slice, geo.

We do not use `qdrant_client.models.Filter`: importing it costs a replica 1.5 s and 73 MB, and its errors list every
member of a union instead of the mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from serve_app.errors import InvalidInput
from serve_app.store.filters.conditions import (
    Object,
    fail,
    inside,
    is_integer,
    read_match,
    read_object,
    read_range,
    read_values_count,
    show,
)
from serve_app.store.filters.paths import element_path, field_path
from serve_app.types import JsonObject, JsonValue

__all__ = ["field_path", "parse_filter", "to_edge"]

LISTS = ("must", "should", "must_not")
CLAUSES = (*LISTS, "min_should")
TESTS = {"match": read_match, "range": read_range, "values_count": read_values_count}
SHAPES = 'a condition has "key" and "match", "range" or "values_count", or "is_empty", "is_null", "nested" or a filter'
REFUSED = {
    "has_id": 'filter by the field "document_id"',
    "has_vector": "every passage has its vectors",
    "slice": "page with limit and offset",
    "geo_bounding_box": "use range on a latitude and a longitude",
    "geo_radius": "use range on a latitude and a longitude",
    "geo_polygon": "use range on a latitude and a longitude",
}

PathOf = Callable[[str], str]


def parse_filter(raw: object, *, max_depth: int, max_conditions: int) -> JsonObject:
    """The filter in canonical form: equal filters become equal JSON, byte for byte, and keys are payload paths. The
    canonical form of a canonical filter is itself.

    max_depth: levels of nested filters, the outermost included; max_conditions: in total, at all levels.
    Raises InvalidInput, whose message begins with the place of the mistake: `must[0].range.gte: …`.
    """
    return _Parser(max_depth, max_conditions).filter(raw, "", 1, field_path)


class _Parser:
    """A recursive descent parser. It counts conditions before it reads them, so a huge filter costs no more than one at
    the limit."""

    def __init__(self, max_depth: int, max_conditions: int) -> None:
        self._max_depth = max_depth
        self._max_conditions = max_conditions
        self._conditions = 0

    def filter(self, raw: object, at: str, depth: int, path_of: PathOf) -> Object:
        if depth > self._max_depth:
            fail(at, f"filters may be nested {self._max_depth} deep, no deeper")
        fields = read_object(raw, at, CLAUSES)
        clauses: Object = {}
        for name in LISTS:
            conditions = self._clause(fields.get(name), inside(at, name), depth, path_of)
            if conditions:
                clauses[name] = [*{canonical_json(c): c for c in conditions}.values()]
        if "min_should" in fields:
            clauses["min_should"] = self._min_should(fields["min_should"], inside(at, "min_should"), depth, path_of)
        if not clauses and depth > 1:
            fail(at, f"is empty; {SHAPES}")
        return clauses

    def _clause(self, raw: object, at: str, depth: int, path_of: PathOf) -> list[JsonValue]:
        """The conditions in canonical order, whatever the order in the request."""
        if raw is None:
            return []
        if isinstance(raw, dict):
            raw = [raw]
        if not isinstance(raw, list):
            fail(at, f"must be a list of conditions, not {show(raw)}")
        self._conditions += len(raw)
        if self._conditions > self._max_conditions:
            fail(at, f"a filter has at most {self._max_conditions} conditions")
        conditions = [self._condition(item, f"{at}[{i}]", depth, path_of) for i, item in enumerate(raw)]
        return [*sorted(conditions, key=canonical_json)]

    def _min_should(self, raw: object, at: str, depth: int, path_of: PathOf) -> Object:
        fields = read_object(raw, at, ("conditions", "min_count"))
        conditions = self._clause(fields.get("conditions"), inside(at, "conditions"), depth, path_of)
        count = fields.get("min_count")
        if not is_integer(count) or not 1 <= count <= len(conditions):
            fail(inside(at, "min_count"), f"must be 1 to {len(conditions)}, not {show(count)}")
        return {"conditions": conditions, "min_count": count}

    def _condition(self, raw: object, at: str, depth: int, path_of: PathOf) -> Object:
        if not isinstance(raw, dict):
            fail(at, f"must be an object, not {show(raw)}; {SHAPES}")
        raw = {name: value for name, value in raw.items() if value is not None}
        for name in REFUSED.keys() & raw.keys():
            fail(at, f"{name} is not supported; {REFUSED[name]}")
        if "key" in raw:
            return _field_condition(raw, at, path_of)
        for name in ("is_empty", "is_null"):
            if name in raw:
                inner = inside(at, name)
                named = read_object(read_object(raw, at, (name,)).get(name), inner, ("key",))
                return {name: {"key": _key(named, inner, path_of)}}
        if "nested" in raw:
            return self._nested(read_object(raw, at, ("nested",)).get("nested"), inside(at, "nested"), depth, path_of)
        if not raw.keys() & set(CLAUSES):
            fail(at, f"is not a condition; {SHAPES}")
        return self.filter(raw, at, depth + 1, path_of)

    def _nested(self, raw: object, at: str, depth: int, path_of: PathOf) -> Object:
        fields = read_object(raw, at, ("key", "filter"))
        key = _key(fields, at, path_of)
        key = key if key.endswith("[]") else f"{key}[]"  # both mean the same here
        inner = self.filter(fields.get("filter"), inside(at, "filter"), depth + 1, element_path)
        return {"nested": {"key": key, "filter": inner}}


def _field_condition(raw: Object, at: str, path_of: PathOf) -> Object:
    fields = read_object(raw, at, ("key", *TESTS))
    key = _key(fields, at, path_of)
    tests = [name for name in TESTS if name in fields]
    if len(tests) != 1:
        fail(at, f"has exactly one of {', '.join(TESTS)}")
    [name] = tests
    return {"key": key, name: TESTS[name](fields[name], inside(at, name))}


def _key(fields: Object, at: str, path_of: PathOf) -> str:
    key = fields.get("key")
    at = inside(at, "key")
    if not isinstance(key, str):
        fail(at, f"must be a field's name, not {show(key)}")
    try:
        return path_of(key)
    except InvalidInput as error:
        raise InvalidInput(f"{at}: {error}") from None


def canonical_json(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True)


def to_edge(filter: JsonObject) -> edge.Filter:
    """A canonical filter as Qdrant Edge's type. A Qdrant server takes the canonical JSON itself.

    An absent clause stays absent, because inside `nested` an empty clause matches nothing in Edge.
    """
    clauses = cast("dict[str, Any]", filter)
    lists = {name: [_edge_condition(c) for c in clauses[name]] for name in LISTS if name in clauses}
    at_least = clauses.get("min_should")
    return edge.Filter(
        must=lists.get("must"),
        should=lists.get("should"),
        must_not=lists.get("must_not"),
        min_should=at_least and _edge_min_should(**at_least),
    )


def _edge_min_should(conditions: list[dict[str, Any]], min_count: int) -> edge.MinShould:
    return edge.MinShould([_edge_condition(condition) for condition in conditions], min_count)


def _edge_condition(condition: dict[str, Any]) -> edge.ConditionType:
    match condition:
        case {"key": _}:
            return _edge_field_condition(**condition)
        case {"is_empty": {"key": key}}:
            return edge.IsEmptyCondition(key)
        case {"is_null": {"key": key}}:
            return edge.IsNullCondition(key)
        case {"nested": {"key": key, "filter": inner}}:
            return edge.NestedCondition(key, to_edge(inner))
    return to_edge(condition)


def _edge_field_condition(
    key: str,
    match: dict[str, Any] | None = None,
    range: dict[str, Any] | None = None,
    values_count: dict[str, int] | None = None,
) -> edge.FieldCondition:
    if match is not None:
        return edge.FieldCondition(key, match=_edge_match(match))
    if range is not None:
        of_instants = any(isinstance(bound, str) for bound in range.values())
        return edge.FieldCondition(key, range=(edge.RangeDateTime if of_instants else edge.RangeFloat)(**range))
    return edge.FieldCondition(key, values_count=edge.ValuesCount(**(values_count or {})))


def _edge_match(match: dict[str, Any]) -> edge.MatchType:
    match match:
        case {"value": value}:
            # Edge 0.9.0 reads Python's True as the integer 1, but NumPy's True as a boolean.
            return edge.MatchValue(cast("bool", np.bool_(value)) if isinstance(value, bool) else value)
        case {"any": values}:
            return edge.MatchAny(values)
        case {"except": values}:
            return edge.MatchExcept(values)
    return edge.MatchText(match["text"])
