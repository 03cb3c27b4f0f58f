"""Counting in process: a microsecond an observation. The totals are read as Prometheus samples.

Ray's own metrics cost some 9 µs a call, and a histogram's sum comes out as an estimate because its agent replays each
observation at the middle of its bucket. So only totals go there: `deployments.metrics`.
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
    """One number as Prometheus takes it. suffix: of a histogram's series, else empty."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.metric.name + self.suffix


class CountedSeries:
    """The totals of one series of a counter or histogram. A hot path keeps its series and saves looking it up.

    counts: of a histogram, observations by bucket, the bucket without a bound last."""

    __slots__ = ("_bounds", "_lock", "counts", "total")

    def __init__(self, bounds: tuple[float, ...], lock: threading.Lock) -> None:
        self._bounds = bounds
        self._lock = lock
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, amount: float = 1) -> None:
        """For a counter. amount: not negative."""
        with self._lock:
            self.total += amount

    def observe(self, value: float) -> None:
        """For a histogram."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self.counts[bucket] += 1
            self.total += value


class Meter:
    """Thread-safe; make one per process. Raises KeyError for a metric, a label or a series that is not in the
    catalogue and TypeError for too few labels: mistakes in the program."""

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
        """Raises ValueError for a negative amount, too."""
        if not amount >= 0:
            raise ValueError(f"{metric.name} cannot grow by {amount}")
        self.series(metric, **labels).add(amount)

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        """value: in the unit that the metric's name ends with."""
        self.series(metric, **labels).observe(value)

    def time(self, metric: Histogram, /, **labels: str) -> Stopwatch:
        """`with meter.time(STAGE_SECONDS, stage="infer", lane="bulk"):` observes how long what it encloses takes, in
        seconds, also if that raises."""
        return Stopwatch(self.series(metric, **labels))

    def series(self, metric: Counter | Histogram, /, **labels: str) -> CountedSeries:
        return self._counted[metric.name][label_values(metric, labels)]

    def watch(self, metric: Gauge, read: GaugeReading, /, **labels: str) -> None:
        """`read` is called whenever samples are taken, possibly in another thread. While it returns None, the series is
        absent, as it is before `watch`."""
        readings, values = self._gauges[metric.name], label_values(metric, labels)
        if values not in readings:
            raise KeyError(values)
        readings[values] = read

    def samples(self) -> list[MetricSample]:
        """All counters and histograms, at one instant and at zero before their first event, and the gauges."""
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
        raise TypeError(f"{metric.name} has the labels {metric.labels} and not {tuple(labels)}")
    return tuple([labels[name] for name in metric.labels])


def labels_of(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, values, strict=True))


def samples_of(metric: Metric, labels: Mapping[str, str], series: CountedSeries) -> Iterator[MetricSample]:
    """A histogram's buckets count what is at most `le`, each including those before it."""
    if not isinstance(metric, Histogram):
        yield MetricSample(metric, labels, series.total)
        return
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for bound, count in zip(bounds, accumulate(series.counts), strict=True):
        yield MetricSample(metric, {**labels, "le": bound}, count, "_bucket")
    yield MetricSample(metric, labels, series.total, "_sum")
    yield MetricSample(metric, labels, sum(series.counts), "_count")
