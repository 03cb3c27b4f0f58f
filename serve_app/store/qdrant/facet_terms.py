"""What a filter says about keyword-indexed fields, so that a server can find candidates instead of reading payloads.

An index on a metadata field itself would change answers: it has one type and knows no value of another. The mirror
`facets` has every value as text, so a keyword index on it misses none. A condition on the mirror is added to the one on
the metadata, which stays and decides. Measured with Qdrant's engine on 20,000 passages (2 cores, dense, first 100 of
a filter on one field): without an index 170–280 ms, so 0.5–4 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from serve_app.store.payload import facet_path, facet_texts
from serve_app.types import JsonObject


@dataclass(frozen=True, slots=True)
class FacetTerms:
    """Passages that match have one of these texts at this path of the mirror."""

    path: str
    texts: tuple[str, ...]


def facet_terms(filter: JsonObject | None) -> Iterator[FacetTerms]:
    """Of a canonical filter: its conditions that must hold, at any depth, with `value` or `any` on metadata."""
    for condition in cast("list[Mapping[str, Any]]", (filter or {}).get("must", [])):
        match condition:
            case {"key": str(key), "match": {"value": value}} if facet_path(key) != key:
                yield FacetTerms(facet_path(key), (facet_texts(value),))
            case {"key": str(key), "match": {"any": [*values]}} if facet_path(key) != key:
                yield FacetTerms(facet_path(key), tuple(facet_texts(values)))
            case {"must": _}:
                yield from facet_terms(condition)
