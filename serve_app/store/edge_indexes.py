"""Which payload indexes a query wants. Without one a filter is right but reads every payload (20,000 passages: 75 ms
instead of 2), and a facet cannot be counted; so an index is made when it is first wanted.

An index has one type, and Edge looks nowhere else once there is one. So only types are made with which no value is
missed: text for matches of text, integers for matches of integers, floats (which include integers) for ranges. The
first type that is wanted of a field stays; conditions of another type on it are answered without the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from qdrant_edge import PayloadSchemaType

from serve_app.store.payload import facet_path
from serve_app.types import JsonObject, StoreQuery

MAX_INDEXES = 64  # of one collection


def wanted_indexes(query: StoreQuery) -> Iterator[tuple[str, PayloadSchemaType]]:
    """Path and type, facets first; a path may come twice."""
    yield from ((facet_path(path), PayloadSchemaType.Keyword) for path in query.facets)
    if query.filter:
        yield from filter_indexes(query.filter)


def filter_indexes(filter: JsonObject) -> Iterator[tuple[str, PayloadSchemaType]]:
    """Of a canonical filter. Conditions inside `nested` are about elements and have none."""
    fields = cast("Mapping[str, Any]", filter)
    for clause in ("must", "should", "must_not"):
        for condition in fields.get(clause, ()):
            yield from _condition_indexes(condition)
    for condition in fields.get("min_should", {}).get("conditions", ()):
        yield from _condition_indexes(condition)


def _condition_indexes(condition: Mapping[str, Any]) -> Iterator[tuple[str, PayloadSchemaType]]:
    match condition:
        case {"key": str(path), "match": dict(match)} if "text" not in match:
            [operand] = match.values()
            yield path, _type_of(operand[0] if isinstance(operand, list) and operand else operand)
        case {"key": str(path), "range": dict(bounds)}:
            of_instants = any(isinstance(bound, str) for bound in bounds.values())
            yield path, PayloadSchemaType.Datetime if of_instants else PayloadSchemaType.Float
        case {"key": _} | {"is_empty": _} | {"is_null": _} | {"nested": _}:
            return
        case _:
            yield from filter_indexes(condition)


def _type_of(value: object) -> PayloadSchemaType:
    if isinstance(value, bool):
        return PayloadSchemaType.Bool
    return PayloadSchemaType.Integer if isinstance(value, int) else PayloadSchemaType.Keyword
