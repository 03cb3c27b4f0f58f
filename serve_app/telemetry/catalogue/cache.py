"""The cache, tier by tier."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, Gauge, combined

KINDS = ("embedding", "result")
TIERS = ("l1", "l2", "l3", "l4")
GUARDED_TIERS = TIERS[1:]  # outside the process, so they may fail

CACHE_LOOKUPS = Counter(
    "aidocs_cache_lookups_total",
    "Keys looked up in the cache: a hit in this tier, or a miss in all of them",
    labels=("kind", "tier", "outcome"),
    series=combined(KINDS, TIERS, ("hit",)) + combined(KINDS, ("all",), ("miss",)),
)
CACHE_REPEATED_MISSES = Counter(
    "aidocs_cache_repeated_misses_total",
    "Misses for keys that were requested before, which a cache without limits would have answered; an estimate",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_HIT_RATIO = Gauge(
    "aidocs_cache_hit_ratio",
    "Hits over lookups since the start of the process; absent before the first lookup",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_JOINED = Counter(
    "aidocs_cache_joined_total",
    "Callers who waited for another caller's computation of the same key and looked nothing up themselves",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_PROMOTIONS = Counter(
    "aidocs_cache_promotions_total",
    "Entries copied to this tier from a slower one because they are requested often",
    labels=("tier",),
    series=combined(TIERS),
)
CACHE_WRITES_DROPPED = Counter(
    "aidocs_cache_writes_dropped_total",
    "Entries not written to this tier because too many were waiting to be written",
    labels=("tier",),
    series=combined(TIERS),
)
CACHE_FAILURES = Counter(
    "aidocs_cache_failures_total",
    "Calls that this tier did not answer in time or at all",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
CACHE_PAUSE_SECONDS = Gauge(
    "aidocs_cache_pause_seconds",
    "How long this tier is left out after its last failure; 0 while it answers; absent if there is no such tier",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
