"""What was found as JSON: made once, kept by the cache, sent as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from serve_app.query_types import Hit, StoreResult


def encode_result(result: StoreResult, release: str) -> bytes:
    """`{"hits": […], "release": …}`, with `"facets": {path: {value: passages}}` and `"total"` where facets were asked
    for. release: that answered."""
    content: dict[str, Any] = {"hits": result.hits, "release": release}
    if result.total is not None:
        content |= {"facets": result.facets, "total": result.total}
    return orjson.dumps(content, default=_plain)


def decode_result(content: bytes) -> tuple[StoreResult, str]:
    """The result, but that it does not say its index, and the release that answered."""
    found = orjson.loads(content)
    hits = (Hit(**hit) for hit in found["hits"])
    result = StoreResult(
        tuple(replace(hit, headings=tuple(hit.headings)) for hit in hits), found.get("facets", {}), found.get("total")
    )
    return result, found["release"]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
