"""Rewrites filters so that Edge evaluates them fast and correctly, and says which payload indexes they need.

Without an index, a filter reads every payload (20,000 passages: 75 ms instead of 2), and a facet cannot be counted. So
an index is created when a query first needs it, if any passage has the field. But an index has one type, and Edge then
reads nothing but the index: an integer index matches 1.0 with 1 and misses 1.5 in a range; a number index compares
dates with numbers. So the first key of a path decides the type, whatever the values are (`payload.py` has the mirrors):

    facets.x    text       replaces metadata.x in a match of `value` or `any`
    dates.x     date-time  replaces metadata.x in a range of dates
    metadata.x  float      in a range of numbers (integers are floats, too)

`except`, `text`, `values_count`, `is_empty`, `is_null` and `nested` use no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import qdrant_edge as edge
from qdrant_edge import PayloadSchemaType

from serve_app.store.filters.parse import to_edge
from serve_app.store.payload import PASSAGE, date_path, facet_path, facet_texts, restrict
from serve_app.types import JsonObject

MAX_INDEXES = 64  # payload indexes of one shard
MAX_INDEXES_FOR_FILTERS = 48  # the rest is for facets, which cannot work without an index
Condition = Mapping[str, Any]


def edge_filter(filter: JsonObject | None, kind: str) -> edge.Filter:
    """Edge's filter for the points of this kind that match the canonical filter, on fields that can be indexed."""
    return to_edge(restrict(rewritten(filter or {}, kind), kind))


def rewritten(filter: JsonObject, kind: str) -> JsonObject:
    """An equivalent filter on fields that can be indexed, for points of this kind. Only passages have `facets`."""
    fields = dict(cast("Mapping[str, Any]", filter))
    for clause in {"must", "should", "must_not"} & fields.keys():
        fields[clause] = [_rewritten(condition, kind) for condition in fields[clause]]
    if at_least := fields.get("min_should"):
        fields["min_should"] = {**at_least, "conditions": [_rewritten(c, kind) for c in at_least["conditions"]]}
    return fields


def _rewritten(condition: Condition, kind: str) -> Condition:
    match condition:
        case {"key": str(path), "match": {"value": _} | {"any": _}} if kind == PASSAGE and facet_path(path) != path:
            return {"key": facet_path(path), "match": facet_texts(condition["match"])}
        case {"key": str(path), "range": dict(bounds)} if _are_dates(bounds):
            return {"key": date_path(path), "range": bounds}
        case {"key": _} | {"is_empty": _} | {"is_null": _} | {"nested": _}:
            return condition
    return rewritten(condition, kind)


def facet_indexes(paths: Iterable[str]) -> Iterator[tuple[str, PayloadSchemaType]]:
    """Path and type of each payload index that these facets need."""
    return ((facet_path(path), PayloadSchemaType.Keyword) for path in paths)


def filter_indexes(filter: JsonObject | None) -> Iterator[tuple[str, PayloadSchemaType]]:
    """Path and type of each payload index that makes this filter fast. A path may occur twice."""
    return _wanted_by(rewritten(filter or {}, PASSAGE))


def _wanted_by(filter: Condition) -> Iterator[tuple[str, PayloadSchemaType]]:
    conditions = [c for clause in ("must", "should", "must_not") for c in filter.get(clause, ())]
    for condition in (*conditions, *filter.get("min_should", {}).get("conditions", ())):
        match condition:
            case {"key": str(path), "match": {"value": _} | {"any": _}} if not path.startswith("metadata."):
                yield path, PayloadSchemaType.Keyword
            case {"key": str(path), "range": _} if path.startswith("dates."):
                yield path, PayloadSchemaType.Datetime
            case {"key": str(path), "range": _} if path.startswith("metadata."):
                yield path, PayloadSchemaType.Float
            case {"key": _} | {"is_empty": _} | {"is_null": _} | {"nested": _}:
                continue
            case _:
                yield from _wanted_by(condition)


def _are_dates(bounds: Mapping[str, object]) -> bool:
    return any(isinstance(bound, str) for bound in bounds.values())
