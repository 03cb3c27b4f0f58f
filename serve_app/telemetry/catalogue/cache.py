"""Metrics of the cache."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, Gauge, combined

KINDS = ("embedding", "result")
TIERS = ("l1", "l2", "l3", "l4")
GUARDED_TIERS = TIERS[1:]  # outside the process, so they may fail

CACHE_LOOKUPS = Counter(
    "aidocs_cache_lookups_total",
    "Keys looked up in the cache: hits in this tier, or misses in all tiers",
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
    "Hits divided by lookups since the process started; absent before the first lookup",
    labels=("kind",),
    series=combined(KINDS),
)
CACHE_JOINED = Counter(
    "aidocs_cache_joined_total",
    "Callers that waited for another caller to compute the same key, without a lookup of their own",
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
    "Entries not written to this tier because its write queue was full",
    labels=("tier",),
    series=combined(TIERS),
)
CACHE_FAILURES = Counter(
    "aidocs_cache_failures_total",
    "Calls to this tier that failed or timed out",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
CACHE_PAUSE_SECONDS = Gauge(
    "aidocs_cache_pause_seconds",
    "How long this tier is skipped after its last failure; 0 while it works; absent if the tier does not exist",
    labels=("tier",),
    series=combined(GUARDED_TIERS),
)
