"""Metrics of prefetching: searches made ahead of a user."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, combined

PREFETCHES = Counter(
    "aidocs_prefetches_total",
    "Next pages that were searched before a user requested them. computed: the result was computed and cached. cached: "
    "it was already cached. failed: an error or a timeout. A prefetch counts neither as a request nor in the stages "
    "search and serialise, but its embedding (lane bulk) and its cache lookups do count",
    labels=("outcome",),
    series=combined(("computed", "cached", "failed")),
)
PREFETCHES_USEFUL = Counter(
    "aidocs_prefetches_useful_total", "Computed prefetches whose result a user later received from the cache"
)
PREFETCHES_SKIPPED = Counter(
    "aidocs_prefetches_skipped_total",
    "Prefetches that were likely to be used but not made. load: too many requests were running. busy: too many "
    "prefetches were running. useless: too few of the prefetches made before were used",
    labels=("reason",),
    series=combined(("load", "busy", "useless")),
)
