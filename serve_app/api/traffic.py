"""Kinds of requests, each with its own concurrency limit, so that slow requests cannot displace quick ones."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from serve_app.flow.limiter import Limiter
from serve_app.settings import ApiSettings


class Traffic(Enum):
    SEARCHES = "searches"
    EMBEDDINGS = "embedding requests"
    LOOKUPS = "lookups"  # interactive requests that need only the store
    UPLOADS = "uploads"


Limiters = Mapping[Traffic, Limiter]


def make_limiters(settings: ApiSettings) -> Limiters:
    """A limiter for each kind. Limits of interactive requests adapt to their latency. The limit of uploads is fixed,
    because their duration depends on their texts."""
    limiters = {
        kind: Limiter(kind.value, floor=settings.min_concurrency, ceiling=settings.max_concurrency)
        for kind in Traffic
        if kind is not Traffic.UPLOADS
    }
    return limiters | {
        Traffic.UPLOADS: Limiter(
            Traffic.UPLOADS.value, floor=settings.max_concurrent_uploads, ceiling=settings.max_concurrent_uploads
        )
    }


def slots_of(body: Any, settings: ApiSettings) -> int:
    """The slots that a request with this JSON body occupies: 1, or more if it has many texts or queries."""
    slots = 1
    if isinstance(body, dict):
        for name, per_slot in (("input", settings.texts_per_slot), ("queries", settings.queries_per_slot)):
            if isinstance(items := body.get(name), list):
                slots = max(slots, -(-len(items) // per_slot))
    return slots


def load_of(limiters: Limiters) -> float:
    """The highest ratio of used slots among all kinds of requests."""
    return max(limiter.load for limiter in limiters.values())
