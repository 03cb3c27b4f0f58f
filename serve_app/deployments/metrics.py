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
from collections.abc import Callable, Iterable
from typing import Any

from ray.serve.metrics import Gauge

from serve_app.telemetry.meter import MetricSample

logger = logging.getLogger(__name__)

PERIOD_S = 1.0  # Ray reports each 10 s, each second at most, and drops a gauge not set for two reports
Source = Callable[[], Iterable[MetricSample]]


class RayExport:
    """Sets Ray's gauges to the samples that `source` returns. Not thread-safe."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._gauges: dict[str, Gauge] = {}
        self._is_failing = False

    def export(self) -> None:
        """Never raises. A failure is logged once, and again only after an export has worked."""
        try:
            for sample in self._source():
                self._gauge(sample).set(sample.value, dict(sample.labels))
            self._is_failing = False
        except Exception:
            if not self._is_failing:
                logger.exception("the metrics of this replica are not exported")
            self._is_failing = True

    def _gauge(self, sample: MetricSample) -> Gauge:
        gauge = self._gauges.get(sample.name)
        if gauge is None:
            labels: Any = tuple(sample.labels)  # Ray's annotation means one label
            gauge = Gauge(sample.name, sample.metric.description, labels)
            self._gauges[sample.name] = gauge
        return gauge


def start_export(source: Source) -> None:
    """Exports every PERIOD_S from now on, in a thread that ends with the process."""
    export = RayExport(source)

    def run() -> None:
        while True:
            export.export()
            time.sleep(PERIOD_S)

    threading.Thread(target=run, name="metrics", daemon=True).start()
