"""Kinds of requests, each with a limit of its own: what takes long cannot push out what is quick (back-pressure)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from serve_app.flow.limiter import Limiter
from serve_app.settings import ApiSettings


class Traffic(Enum):
    SEARCHES = "searches"
    EMBEDDINGS = "embedding requests"
    LOOKUPS = "lookups"  # all that a user waits for and that needs the store alone
    UPLOADS = "uploads"


Limiters = Mapping[Traffic, Limiter]


def make_limiters(settings: ApiSettings) -> Limiters:
    """Those that a user waits for adapt to their latency; uploads, which take as long as their texts, have a bound."""
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
    """What a request with this JSON body weighs in its limit: one, or more if it brings many texts or queries."""
    slots = 1
    if isinstance(body, dict):
        for name, per_slot in (("input", settings.texts_per_slot), ("queries", settings.queries_per_slot)):
            if isinstance(items := body.get(name), list):
                slots = max(slots, -(-len(items) // per_slot))
    return slots


def load_of(limiters: Limiters) -> float:
    """Of the kind that is nearest to its limit: share of its slots in use."""
    return max(limiter.load for limiter in limiters.values())
