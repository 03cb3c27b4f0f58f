"""Metrics of prefetching: searches made ahead of a user."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, combined

KINDS = ("page", "query")

PREFETCHES = Counter(
    "aidocs_prefetches_total",
    "Searches made ahead of users. computed: the result was computed and cached. kept: it was already cached. failed: "
    "an error or a timeout. A prefetch does not count as a request, nor in the stages search and serialise, but "
    "it counts in the stages of the embedding (lane bulk) and as a cache lookup",
    labels=("kind", "outcome"),
    series=combined(KINDS, ("computed", "kept", "failed")),
)
PREFETCHES_USEFUL = Counter(
    "aidocs_prefetches_useful_total",
    "Computed prefetches whose result a user later received",
    labels=("kind",),
    series=combined(KINDS),
)
PREFETCHES_SKIPPED = Counter(
    "aidocs_prefetches_skipped_total",
    "Prefetches not made. load: the replica was too busy. busy: too many prefetches were running. useless: too few "
    "earlier prefetches were useful",
    labels=("kind", "reason"),
    series=combined(KINDS, ("load", "busy", "useless")),
)
