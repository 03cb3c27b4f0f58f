"""Grouping: the best passage of each value of a field, for a store that cannot group itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

STEP = re.compile(r'"(?P<quoted>[^"]*)"|\[(?P<index>[0-9]*)\]|(?P<plain>[^."\[\]]+)')


def values_at(payload: Mapping[str, Any], path: str) -> list[str | int | float | bool]:
    """The scalars at a canonical payload path (`metadata.a."b c"[].d[0]`). As in Qdrant, a list at the end of the path
    counts as its elements. A missing field, null or an object has no values."""
    found: Iterable[Any] = [payload]
    for step in STEP.finditer(path):
        found = list(_descend(found, step))
    scalars = (inner for value in found for inner in (value if isinstance(value, list) else [value]))
    return [value for value in scalars if isinstance(value, str | int | float)]


def _descend(values: Iterable[Any], step: re.Match[str]) -> Iterator[Any]:
    for value in values:
        if step["index"] is None:
            key = step["plain"] if step["quoted"] is None else step["quoted"]
            if isinstance(value, dict) and key in value:
                yield value[key]
        elif isinstance(value, list):
            at = int(step["index"]) if step["index"] else None
            yield from value if at is None else value[at : at + 1]


def first_of_each(values_of_each: Iterable[Iterable[str | int | float | bool]]) -> list[int]:
    """Places of the items that have a value which no earlier item has. Items without values are left out.
    values_of_each: the values of each item, best item first. 1, 1.0 and True are three different values."""
    seen: set[tuple[type, object]] = set()
    kept: list[int] = []
    for place, values in enumerate(values_of_each):
        keys = {(type(value), value) for value in values}
        if not keys <= seen:
            kept.append(place)
            seen |= keys
    return kept
