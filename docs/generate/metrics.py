"""docs/reference/metrics.md: every metric of the catalogue."""

from __future__ import annotations

from docs.generate.markdown import page, table
from serve_app.telemetry.catalogue import CATALOGUE
from serve_app.telemetry.catalogue.metric import Metric


def metrics_page() -> str:
    query = 'histogram_quantile(0.95, sum by (le) (rate(ray_aidocs_stage_seconds_bucket{stage="infer"}[5m])))'
    return page(
        "Metrics",
        [
            "Ray's metrics agent on each node exports these to Prometheus for every replica, with the labels "
            "`application`, `deployment` and `replica`. [Operations](../operations.md#metrics) says where to scrape "
            "them. The 95th percentile of a forward pass, for example:",
            f"```text\n{query}\n```",
            table(("metric", "kind", "labels", "meaning"), [metric_row(metric) for metric in CATALOGUE]),
        ],
    )


def metric_row(metric: Metric) -> tuple[str, ...]:
    values = [sorted({series[i] for series in metric.series}) for i in range(len(metric.labels))]
    labels = "<br>".join(f"{name}: {', '.join(each)}" for name, each in zip(metric.labels, values, strict=True))
    return f"`{metric.exported_name}`", metric.kind, labels, metric.description
