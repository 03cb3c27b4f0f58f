"""Every metric of ai-docs: what is counted, in which unit, under which labels. Facts only; `meter` does the counting.

A metric names all its series, so that none can appear that nobody foresaw (never a tenant's, a collection's or a
text's), and so that each is there, at zero, before its first event: without that zero Prometheus sees no increase
when the first error is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise, product
from typing import ClassVar

NAME = re.compile(r"aidocs(_[a-z0-9]+)+")
UNITS = ("_seconds", "_tokens", "_ratio")
RAY_PREFIX = "ray_"  # put before every name by Ray's metrics agent


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """labels: their names. series: the values they can have together, each as long as `labels`.
    Raises ValueError if it is not named as Prometheus asks, or its series do not fit its labels."""

    name: str
    description: str
    _: KW_ONLY
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or not self.name.endswith(self.suffixes):
            raise ValueError(f"{self.name}: a {self.kind} begins with aidocs_ and ends with one of {self.suffixes}")
        if not self.series or any(len(values) != len(self.labels) for values in self.series):
            raise ValueError(f"{self.name}: each series has a value for each of {self.labels}")

    @property
    def exported_name(self) -> str:
        """In Prometheus; a histogram's series add `_bucket`, `_sum` and `_count`."""
        return RAY_PREFIX + self.name


@dataclass(frozen=True, slots=True, eq=False)
class Counter(Metric):
    """Only ever grows, from 0 at the start of its process."""

    kind = "counter"
    suffixes = ("_total",)


@dataclass(frozen=True, slots=True, eq=False)
class Gauge(Metric):
    """As it is now."""

    kind = "gauge"
    suffixes = UNITS


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Metric):
    """buckets: upper bounds, included, ascending, in the unit of the name; one without a bound is added."""

    _: KW_ONLY
    buckets: tuple[float, ...]
    kind = "histogram"
    suffixes = UNITS

    def __post_init__(self) -> None:
        Metric.__post_init__(self)
        if not self.buckets or any(low >= high for low, high in pairwise(self.buckets)):
            raise ValueError(f"{self.name}: the buckets' bounds do not ascend")


def combined(*values: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Series for every combination."""
    return tuple(product(*values))


ROUTES = ("searches", "embeddings", "lookups", "uploads", "other")  # by their traffic
OUTCOMES = ("ok", "rejected", "overloaded", "timeout", "unavailable", "failed", "gone")
LANES = ("interactive", "bulk")
CACHE_KINDS = ("embedding", "result")
CACHE_TIERS = ("l1", "l2", "l3", "l4")
GUARDED_TIERS = CACHE_TIERS[1:]  # may fail: outside of the process
PREFETCH_KINDS = ("page", "query")

STAGE_SECONDS = Histogram(
    "aidocs_stage_seconds",
    "Time in one stage of a request. tokenize: of a call's texts. queue: of a text, until its forward pass begins. "
    "infer: of a forward pass. search: of a query, in the store and on the way there and back, its wait for a batch "
    "included. rerank: of a search's first hits by a cross-encoder, their wait for its passes included. serialise: of "
    "what a search found, or of an answer with embeddings, into JSON",
    labels=("stage", "lane"),
    series=(
        *combined(("queue", "tokenize", "infer", "serialise"), LANES),
        *combined(("search", "rerank"), ("interactive",)),
    ),
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
PASS_TOKENS = Histogram(
    "aidocs_pass_tokens",
    "Tokens of one forward pass. real: the texts' own. padded: what is computed, each text as long as the longest or a "
    "little longer",
    labels=("counted",),
    series=combined(("real", "padded")),
    buckets=(16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536),
)
REQUESTS = Counter(
    "aidocs_requests_total",
    "Requests of the API answered. rejected: the client's fault (4xx). overloaded: refused, nothing was done (429). "
    "timeout: 504. unavailable: 503. failed: 500. gone: the client left before the answer",
    labels=("route", "outcome"),
    series=combined(ROUTES, OUTCOMES),
)
CACHE_LOOKUPS = Counter(
    "aidocs_cache_lookups_total",
    "Keys looked up in the cache: hit in this tier, or miss in all",
    labels=("kind", "tier", "outcome"),
    series=combined(CACHE_KINDS, CACHE_TIERS, ("hit",)) + combined(CACHE_KINDS, ("all",), ("miss",)),
)
CACHE_REPEATED_MISSES = Counter(
    "aidocs_cache_repeated_misses_total",
    "Those of the misses whose key was asked for before, which a cache without limits would have had; an estimate",
    labels=("kind",),
    series=combined(CACHE_KINDS),
)
CACHE_HIT_RATIO = Gauge(
    "aidocs_cache_hit_ratio",
    "Hits over lookups since the start of the process; absent before the first lookup",
    labels=("kind",),
    series=combined(CACHE_KINDS),
)
CACHE_INFINITE_RATIO = Gauge(
    "aidocs_cache_infinite_ratio",
    "Hits over those of a cache without limits, for the same lookups since the start of the process; absent before "
    "it would have had any",
    labels=("kind",),
    series=combined(CACHE_KINDS),
)
CACHE_JOINED = Counter(
    "aidocs_cache_joined_total",
    "Callers who looked nothing up, for another one was just getting the same",
    labels=("kind",),
    series=combined(CACHE_KINDS),
)
CACHE_PROMOTIONS = Counter(
    "aidocs_cache_promotions_total",
    "Entries brought to this tier from one behind it, for they are asked for often",
    labels=("tier",),
    series=combined(CACHE_TIERS),
)
CACHE_WRITES_DROPPED = Counter(
    "aidocs_cache_writes_dropped_total",
    "Entries not written to this tier, for too many were waiting to be",
    labels=("tier",),
    series=combined(CACHE_TIERS),
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
PREFETCHES = Counter(
    "aidocs_prefetches_total",
    "Searches made ahead of those who may ask them: no requests, and not in the stages search and serialise, but "
    "embedded (lane bulk) and looked up in the cache as any. kept: its answer was there already. failed: by an error, "
    "or not in time",
    labels=("kind", "outcome"),
    series=combined(PREFETCH_KINDS, ("computed", "kept", "failed")),
)
PREFETCHES_USEFUL = Counter(
    "aidocs_prefetches_useful_total",
    "Those of the computed ones from which somebody was answered",
    labels=("kind",),
    series=combined(PREFETCH_KINDS),
)
PREFETCHES_SKIPPED = Counter(
    "aidocs_prefetches_skipped_total",
    "Prefetches not made. load: too much is under way. busy: too many prefetches are. useless: too few of "
    "those made were useful",
    labels=("kind", "reason"),
    series=combined(PREFETCH_KINDS, ("load", "busy", "useless")),
)
PREFETCH_USEFUL_RATIO = Gauge(
    "aidocs_prefetch_useful_ratio",
    "Useful prefetches over all that were computed or failed, the newest counting most; absent before the first",
    labels=("kind",),
    series=combined(PREFETCH_KINDS),
)

CATALOGUE: tuple[Metric, ...] = (
    STAGE_SECONDS,
    PASS_TOKENS,
    REQUESTS,
    CACHE_LOOKUPS,
    CACHE_REPEATED_MISSES,
    CACHE_HIT_RATIO,
    CACHE_INFINITE_RATIO,
    CACHE_JOINED,
    CACHE_PROMOTIONS,
    CACHE_WRITES_DROPPED,
    CACHE_FAILURES,
    CACHE_PAUSE_SECONDS,
    PREFETCHES,
    PREFETCHES_USEFUL,
    PREFETCHES_SKIPPED,
    PREFETCH_USEFUL_RATIO,
)


def as_markdown(catalogue: Iterable[Metric] = CATALOGUE) -> str:
    """The table in README."""
    lines = ["| metric | kind | labels | counts |", "|---|---|---|---|"]
    for metric in catalogue:
        values = [sorted({series[i] for series in metric.series}) for i in range(len(metric.labels))]
        labels = "<br>".join(f"{name}: {', '.join(each)}" for name, each in zip(metric.labels, values, strict=True))
        lines.append(f"| `{metric.exported_name}` | {metric.kind} | {labels} | {metric.description} |")
    return "\n".join(lines)
