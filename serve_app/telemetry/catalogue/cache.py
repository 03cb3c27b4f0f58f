"""The cache, tier by tier."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, Gauge, combined

KINDS = ("embedding", "result")
TIERS = ("l1", "l2", "l3", "l4")
GUARDED_TIERS = TIERS[1:]  # may fail: outside of the process

CACHE_LOOKUPS = Counter(
    "aidocs_cache_lookups_total",
    "Keys looked up in the cache: hit in this tier, or miss in all",
    labels=("kind", "tier", "outcome"),
    series=combined(KINDS, TIERS, ("hit",)) + combined(KINDS, ("all",), ("miss",)),
)
CACHE_REPEATED_MISSES = Counter(
    "aidocs_cache_repeated_misses_total",
    "Those of the misses whose key was asked for before, which a cache without limits would have had; an estimate",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_HIT_RATIO = Gauge(
    "aidocs_cache_hit_ratio",
    "Hits over lookups since the start of the process; absent before the first lookup",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_INFINITE_RATIO = Gauge(
    "aidocs_cache_infinite_ratio",
    "Hits over those of a cache without limits, for the same lookups since the start of the process; absent before "
    "it would have had any",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_JOINED = Counter(
    "aidocs_cache_joined_total",
    "Callers who looked nothing up, for another one was just getting the same",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_PROMOTIONS = Counter(
    "aidocs_cache_promotions_total",
    "Entries brought to this tier from one behind it, for they are asked for often",
    labels=("tier",),
    series=combined(TIERS),
)
CACHE_WRITES_DROPPED = Counter(
    "aidocs_cache_writes_dropped_total",
    "Entries not written to this tier, for too many were waiting to be",
    labels=("tier",),
    series=combined(TIERS),
)
CACHE_FAILURES = Counter(
    "aidocs_cache_failures_total",
    "Calls that this tier did not answer in time or at all; absent where there is no such tier",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
CACHE_PAUSE_SECONDS = Gauge(
    "aidocs_cache_pause_seconds",
    "For so long this tier is left out after its last failure; 0 while it answers; absent where there is no such tier",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
