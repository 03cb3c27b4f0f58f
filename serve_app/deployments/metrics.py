"""What a replica counted, to Prometheus by way of Ray's metrics agent, which serves it on the node's metrics port.

Everything goes as one of Ray's gauges that is set to the total so far, histograms as their `_bucket`, `_sum` and
`_count` series. `rate` and `histogram_quantile` look at names and values and never at the declared type, and
 - Ray's Histogram takes one observation a call, and its agent replays each at the middle of its bucket in Python:
   the sum is an estimate and the agent's work grows with the traffic;
 - Ray's Counter cannot be at zero, so the first error would not be seen as an increase; it takes increments, so that
   a report that is lost falsifies it for good; and its series stay in the agent when the replica has gone, until
   they reach the 2,000 of a name beyond which it gives none. A gauge's ends with its replica.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ray.serve.metrics import Gauge

from serve_app.cache.counters import CacheCounters
from serve_app.cache.entry import Kind
from serve_app.cache.tiered import Tiered
from serve_app.search.prefetch.usefulness import Kind as PrefetchKind
from serve_app.search.prefetch.usefulness import Usefulness
from serve_app.telemetry.catalogue.cache import (
    CACHE_FAILURES,
    CACHE_HIT_RATIO,
    CACHE_INFINITE_RATIO,
    CACHE_JOINED,
    CACHE_LOOKUPS,
    CACHE_PAUSE_SECONDS,
    CACHE_PROMOTIONS,
    CACHE_REPEATED_MISSES,
    CACHE_WRITES_DROPPED,
)
from serve_app.telemetry.catalogue.cache import TIERS as CACHE_TIERS
from serve_app.telemetry.catalogue.prefetch import PREFETCH_USEFUL_RATIO
from serve_app.telemetry.meter import Sample

logger = logging.getLogger(__name__)

PERIOD_S = 1.0  # Ray reports each 10 s, each second at most, and drops a gauge not set for two reports
Source = Callable[[], Iterable[Sample]]


class RayExport:
    """Sets Ray's gauges to what `sources` say. Not thread-safe."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._gauges: dict[str, Gauge] = {}
        self._failing: set[int] = set()

    def export(self) -> None:
        """Never raises: a source that fails is told in the log, once until it works again, and takes none of the
        others with it."""
        for number, source in enumerate(self._sources):
            try:
                for sample in source():
                    self._gauge(sample).set(sample.value, dict(sample.labels))
                self._failing.discard(number)
            except Exception:
                if number not in self._failing:
                    logger.exception("some metrics of this replica are not exported")
                self._failing.add(number)

    def _gauge(self, sample: Sample) -> Gauge:
        gauge = self._gauges.get(sample.name)
        if gauge is None:
            labels: Any = tuple(sample.labels)  # Ray's annotation means one label
            gauge = Gauge(sample.name, sample.metric.description, labels)
            self._gauges[sample.name] = gauge
        return gauge


def start_export(*sources: Source) -> None:
    """From now on each PERIOD_S, in a thread that ends with the process."""
    export = RayExport(sources)

    def run() -> None:
        while True:
            export.export()
            time.sleep(PERIOD_S)

    threading.Thread(target=run, name="metrics", daemon=True).start()


def cache_samples(cache: Tiered) -> list[Sample]:
    """The cache counts in its own way; read when it is exported."""
    return [*lookup_samples(cache.counters), *tier_samples(cache)]


def lookup_samples(counters: CacheCounters) -> Iterator[Sample]:
    for kind in Kind:
        of_kind = {"kind": kind.value}
        for tier in CACHE_TIERS:
            yield Sample(CACHE_LOOKUPS, of_kind | {"tier": tier, "outcome": "hit"}, counters.hits[tier, kind])
        yield Sample(CACHE_LOOKUPS, of_kind | {"tier": "all", "outcome": "miss"}, counters.misses[kind])
        yield Sample(CACHE_REPEATED_MISSES, of_kind, counters.misses_seen[kind])
        yield Sample(CACHE_JOINED, of_kind, counters.joined[kind])
        ratios = ((CACHE_HIT_RATIO, counters.hit_ratio), (CACHE_INFINITE_RATIO, counters.ratio_to_infinite))
        for gauge, ratio_of in ratios:
            if (ratio := ratio_of(kind)) is not None:
                yield Sample(gauge, of_kind, ratio)


def tier_samples(cache: Tiered) -> Iterator[Sample]:
    for name in CACHE_TIERS:
        yield Sample(CACHE_PROMOTIONS, {"tier": name}, cache.counters.promotions[name])
        yield Sample(CACHE_WRITES_DROPPED, {"tier": name}, cache.counters.writes_dropped[name])
    for tier in cache.guarded:
        yield Sample(CACHE_FAILURES, {"tier": tier.name}, tier.failures)
        yield Sample(CACHE_PAUSE_SECONDS, {"tier": tier.name}, tier.pause_s)


def prefetch_samples(usefulness: Usefulness) -> Iterator[Sample]:
    for kind in PrefetchKind:
        if (ratio := usefulness.ratio(kind)) is not None:
            yield Sample(PREFETCH_USEFUL_RATIO, {"kind": kind.value}, ratio)
