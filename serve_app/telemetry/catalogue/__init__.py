"""Every metric of ai-docs, with its unit and labels. This package only declares them; `meter` counts.

A metric lists all its series, so their number is bounded: there is never one for each tenant, collection or text. Each
series is at zero before its first event. Without that zero, Prometheus would not see the first error as an increase.
"""

from __future__ import annotations

from serve_app.telemetry.catalogue import cache, prefetch, requests
from serve_app.telemetry.catalogue.metric import Metric

DOMAINS = (requests, cache, prefetch)
CATALOGUE: tuple[Metric, ...] = tuple(
    metric for domain in DOMAINS for metric in vars(domain).values() if isinstance(metric, Metric)
)
