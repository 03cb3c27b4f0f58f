"""Counts metrics in process, at about a microsecond for each observation, and gives their totals as Prometheus samples.

Ray's own metrics cost about 9 µs a call, and the sum of a histogram is only an estimate, because Ray's agent replays
each observation at the middle of its bucket. So Ray gets only the totals: see `deployments.metrics`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from serve_app.telemetry.catalogue import CATALOGUE
from serve_app.telemetry.catalogue.metric import Counter, Gauge, Histogram, Metric

GaugeReading = Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One sample in Prometheus' sense. suffix: `_bucket`, `_sum` or `_count` for a histogram, else empty."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.metric.name + self.suffix


class CountedSeries:
    """The totals of one series of a counter or histogram. A hot path can keep its series to avoid the lookup.

    counts: observations in each bucket of a histogram; the bucket without an upper bound is last."""

    __slots__ = ("_bounds", "_lock", "counts", "total")

    def __init__(self, bounds: tuple[float, ...], lock: threading.Lock) -> None:
        self._bounds = bounds
        self._lock = lock
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, amount: float = 1) -> None:
        """Add to a counter. amount: 0 or more."""
        with self._lock:
            self.total += amount

    def observe(self, value: float) -> None:
        """Add an observation to a histogram."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self.counts[bucket] += 1
            self.total += value


class Meter:
    """All metrics of one process. Thread-safe. Its methods raise KeyError for a metric, a label or a series that is not
    in the catalogue, and TypeError for a wrong number of labels; both are programming errors."""

    def __init__(self, catalogue: Iterable[Metric] = CATALOGUE) -> None:
        self._lock = threading.Lock()
        self._metrics = list(catalogue)
        self._counted = {
            metric.name: {values: CountedSeries(bounds_of(metric), self._lock) for values in metric.series}
            for metric in self._metrics
            if isinstance(metric, Counter | Histogram)
        }
        self._gauges: dict[str, dict[tuple[str, ...], GaugeReading]] = {
            metric.name: dict.fromkeys(metric.series, no_reading)
            for metric in self._metrics
            if isinstance(metric, Gauge)
        }

    def count(self, metric: Counter, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter. Raises ValueError if the amount is negative."""
        if not amount >= 0:
            raise ValueError(f"{metric.name} cannot grow by {amount}")
        self.series(metric, **labels).add(amount)

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        """Add an observation to a histogram. value: in the unit that ends the metric's name."""
        self.series(metric, **labels).observe(value)

    def time(self, metric: Histogram, /, **labels: str) -> Stopwatch:
        """`with meter.time(STAGE_SECONDS, stage="infer", lane="bulk"):` observes the duration of the block in seconds,
        even if the block raises."""
        return Stopwatch(self.series(metric, **labels))

    def series(self, metric: Counter | Histogram, /, **labels: str) -> CountedSeries:
        return self._counted[metric.name][label_values(metric, labels)]

    def watch(self, metric: Gauge, read: GaugeReading, /, **labels: str) -> None:
        """Read a gauge with `read` whenever samples are taken, possibly in another thread. The series is absent before
        `watch` and while `read` returns None."""
        readings, values = self._gauges[metric.name], label_values(metric, labels)
        if values not in readings:
            raise KeyError(values)
        readings[values] = read

    def samples(self) -> list[MetricSample]:
        """All counters and histograms, read at one instant, and the gauges. A series without events is 0."""
        with self._lock:
            counted = [
                sample
                for metric in self._metrics
                for values, series in self._counted.get(metric.name, {}).items()
                for sample in samples_of(metric, labels_of(metric, values), series)
            ]
        return counted + [
            MetricSample(metric, labels_of(metric, values), value)
            for metric in self._metrics
            for values, read in self._gauges.get(metric.name, {}).items()
            if (value := read()) is not None
        ]


class Stopwatch:
    """Observes the duration of its block."""

    __slots__ = ("_series", "_started_s")

    def __init__(self, series: CountedSeries) -> None:
        self._series = series

    def __enter__(self) -> None:
        self._started_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._series.observe(time.perf_counter() - self._started_s)


def no_reading() -> None:
    return None


def bounds_of(metric: Metric) -> tuple[float, ...]:
    return metric.buckets if isinstance(metric, Histogram) else ()


def label_values(metric: Metric, labels: Mapping[str, str]) -> tuple[str, ...]:
    if len(labels) != len(metric.labels):
        raise TypeError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
    return tuple([labels[name] for name in metric.labels])


def labels_of(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, values, strict=True))


def samples_of(metric: Metric, labels: Mapping[str, str], series: CountedSeries) -> Iterator[MetricSample]:
    """A histogram's buckets are cumulative: each counts the observations up to its bound `le`."""
    if not isinstance(metric, Histogram):
        yield MetricSample(metric, labels, series.total)
        return
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for bound, count in zip(bounds, accumulate(series.counts), strict=True):
        yield MetricSample(metric, {**labels, "le": bound}, count, "_bucket")
    yield MetricSample(metric, labels, series.total, "_sum")
    yield MetricSample(metric, labels, sum(series.counts), "_count")
