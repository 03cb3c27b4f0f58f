"""Counting in process: a microsecond an observation. What was counted is read out as Prometheus samples.

Ray's own metrics cost some 9 µs a call and a histogram's sum comes out as an estimate (its agent replays each
observation at the middle of its bucket), so only totals go there: `deployments.metrics`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from serve_app.telemetry.catalogue import CATALOGUE
from serve_app.telemetry.catalogue.metric import Counter, Histogram, Metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One number as Prometheus takes it. suffix: of a histogram's series, else empty."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.metric.name + self.suffix


@dataclass(eq=False, slots=True)
class Tally:
    """One series. counts: by bucket, the one without a bound last; of a counter there is none."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, lock: threading.Lock) -> None:
        bucket = bisect_left(self.bounds, value)
        with lock:
            self.counts[bucket] += 1
            self.total += value


class Meter:
    """Thread-safe; make one per process. Raises KeyError for a metric, a label or a series that is not in the
    catalogue and TypeError for too few labels: mistakes in the program."""

    def __init__(self, catalogue: Iterable[Metric] = CATALOGUE) -> None:
        self._lock = threading.Lock()
        self._metrics = [metric for metric in catalogue if isinstance(metric, Counter | Histogram)]
        self._tallies = {
            metric.name: {values: Tally(bounds_of(metric)) for values in metric.series} for metric in self._metrics
        }

    def count(self, metric: Counter, amount: float = 1, /, **labels: str) -> None:
        """Raises ValueError for a negative amount, too."""
        if not amount >= 0:
            raise ValueError(f"{metric.name} cannot grow by {amount}")
        tally = self._tally(metric, labels)
        with self._lock:
            tally.total += amount

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        """value: in the unit that the metric's name ends with."""
        self._tally(metric, labels).observe(value, self._lock)

    def time(self, metric: Histogram, /, **labels: str) -> Stopwatch:
        """`with meter.time(STAGE_SECONDS, stage="infer", lane="bulk"):` observes how long what it encloses takes, in
        seconds, also if that raises."""
        return Stopwatch(self._tally(metric, labels), self._lock)

    def samples(self) -> list[Sample]:
        """All that was counted, at one instant; what was not counted yet is there as zero."""
        with self._lock:
            return [
                sample
                for metric in self._metrics
                for values, tally in self._tallies[metric.name].items()
                for sample in samples_of(metric, dict(zip(metric.labels, values, strict=True)), tally)
            ]

    def _tally(self, metric: Metric, labels: Mapping[str, str]) -> Tally:
        if len(labels) != len(metric.labels):
            raise TypeError(f"{metric.name} has the labels {metric.labels} and not {tuple(labels)}")
        return self._tallies[metric.name][tuple([labels[name] for name in metric.labels])]


class Stopwatch:
    """From its block's begin to its end."""

    __slots__ = ("_lock", "_started_s", "_tally")

    def __init__(self, tally: Tally, lock: threading.Lock) -> None:
        self._tally = tally
        self._lock = lock

    def __enter__(self) -> None:
        self._started_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._tally.observe(time.perf_counter() - self._started_s, self._lock)


def bounds_of(metric: Metric) -> tuple[float, ...]:
    return metric.buckets if isinstance(metric, Histogram) else ()


def samples_of(metric: Metric, labels: Mapping[str, str], tally: Tally) -> Iterator[Sample]:
    """A histogram's buckets count what is at most `le`, each including those before it."""
    if not isinstance(metric, Histogram):
        yield Sample(metric, labels, tally.total)
        return
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for bound, count in zip(bounds, accumulate(tally.counts), strict=True):
        yield Sample(metric, {**labels, "le": bound}, count, "_bucket")
    yield Sample(metric, labels, tally.total, "_sum")
    yield Sample(metric, labels, sum(tally.counts), "_count")
