"""Every metric of ai-docs: what is counted, in which unit, under which labels. Facts only; `meter` does the counting.

A metric names all its series. So none can appear that nobody foresaw (never one for each tenant, collection or text).
Each is there, at zero, before its first event: without that zero Prometheus sees no increase when the first error is
counted.
"""

from __future__ import annotations

from serve_app.telemetry.catalogue import cache, prefetch, requests
from serve_app.telemetry.catalogue.metric import Metric

DOMAINS = (requests, cache, prefetch)
CATALOGUE: tuple[Metric, ...] = tuple(
    metric for domain in DOMAINS for metric in vars(domain).values() if isinstance(metric, Metric)
)
