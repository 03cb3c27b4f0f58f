"""Adds conditions on keyword-indexed fields to a filter, so that a server uses an index instead of reading payloads.

An index on a metadata field itself would change results, because it has one type and misses values of other types. The
mirror `facets` has every value as text, so a keyword index on it misses none. The condition on the metadata stays and
decides; the condition on the mirror only narrows the candidates. Measured with Qdrant's engine on 20,000 passages (2
cores, dense, 100 hits, a filter on one field): 170–280 ms without an index, 0.5–4 ms with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from serve_app.store.payload import facet_path, facet_texts
from serve_app.types import JsonObject


@dataclass(frozen=True, slots=True)
class FacetTerms:
    """A necessary condition: passages that match the filter have one of these texts at this path of the mirror."""

    path: str
    texts: tuple[str, ...]


def facet_terms(filter: JsonObject | None) -> Iterator[FacetTerms]:
    """The terms of a canonical filter's `must` conditions, at any depth, that match `value` or `any` on metadata."""
    for condition in cast("list[Mapping[str, Any]]", (filter or {}).get("must", [])):
        match condition:
            case {"key": str(key), "match": {"value": value}} if facet_path(key) != key:
                yield FacetTerms(facet_path(key), (facet_texts(value),))
            case {"key": str(key), "match": {"any": [*values]}} if facet_path(key) != key:
                yield FacetTerms(facet_path(key), tuple(facet_texts(values)))
            case {"must": _}:
                yield from facet_terms(condition)
