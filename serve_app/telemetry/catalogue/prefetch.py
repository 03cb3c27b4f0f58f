"""Searches made ahead of a user."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, combined

KINDS = ("page", "query")

PREFETCHES = Counter(
    "aidocs_prefetches_total",
    "Searches made ahead of those who may ask them: no requests, and not in the stages search and serialise, but "
    "embedded (lane bulk) and looked up in the cache as any. kept: its answer was there already. failed: by an error, "
    "or not in time",
    labels=("kind", "outcome"),
    series=combined(KINDS, ("computed", "kept", "failed")),
)
PREFETCHES_USEFUL = Counter(
    "aidocs_prefetches_useful_total",
    "Those of the computed ones from which somebody was answered",
    labels=("kind",),
    series=combined(KINDS),
)
PREFETCHES_SKIPPED = Counter(
    "aidocs_prefetches_skipped_total",
    "Prefetches not made. load: too much is under way. busy: too many prefetches are. useless: too few of "
    "those made were useful",
    labels=("kind", "reason"),
    series=combined(KINDS, ("load", "busy", "useless")),
)
