"""A replica's metrics as Prometheus scrapes them from the metrics port of a real Ray node."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterable
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from serve_app.deployments.metrics import RayExport, start_export
from serve_app.telemetry.catalogue.requests import REQUESTS, STAGE_SECONDS
from serve_app.telemetry.meter import Meter, MetricSample
from tests.integration.running import poll


class Replica:
    def __init__(self) -> None:
        self._meter = Meter()
        start_export(self._meter.samples)

    def worker_id(self) -> str:
        return str(ray.get_runtime_context().get_worker_id())

    def work(self, *durations_s: float) -> None:
        for duration_s in durations_s:
            self._meter.observe(STAGE_SECONDS, duration_s, stage="infer", lane="bulk")
            self._meter.count(REQUESTS, route="searches", outcome="ok")


def scrape(name: str, **labels: str) -> dict[str, float]:
    """By `le`, or "" for a series without."""
    node = ray.nodes()[0]  # type: ignore[no-untyped-call]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.labels.get("le", ""): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def test_the_nodes_metrics_port_has_the_exact_totals_of_each_replica_as_long_as_it_lives(ray_cluster: str) -> None:
    replica: Any = ray.remote(num_cpus=0)(Replica).remote()
    of_replica = {"WorkerId": ray.get(replica.worker_id.remote())}
    stage = of_replica | {"stage": "infer", "lane": "bulk"}
    requests = of_replica | {"route": "searches", "outcome": "ok"}
    poll(lambda: scrape("ray_aidocs_requests_total", **requests) == {"": 0}, timeout_s=30)  # before the first request
    ray.get(replica.work.remote(0.004, 0.004, 0.3))
    ray.get(replica.work.remote(20))
    poll(lambda: scrape("ray_aidocs_requests_total", **requests) == {"": 4}, timeout_s=30)
    buckets = scrape("ray_aidocs_stage_seconds_bucket", **stage)
    assert set(buckets) == {*(str(bound) for bound in STAGE_SECONDS.buckets), "+Inf"}
    assert [buckets[le] for le in ("0.0025", "0.005", "0.25", "0.5", "10.0", "+Inf")] == [0, 2, 2, 3, 3, 4]
    assert scrape("ray_aidocs_stage_seconds_sum", **stage)[""] == pytest.approx(20.308)
    assert scrape("ray_aidocs_stage_seconds_count", **stage) == {"": 4}
    ray.kill(replica)
    poll(lambda: scrape("ray_aidocs_requests_total", **requests) == {}, timeout_s=30)


def test_a_failing_export_is_logged_once_until_it_works_again(
    ray_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    is_working = False

    def samples() -> Iterable[MetricSample]:
        if not is_working:
            raise RuntimeError("no figures")
        return Meter().samples()

    export = RayExport(samples)
    with caplog.at_level(logging.ERROR):
        for is_working in (False, False, True, False):  # noqa: B007 - `samples` reads it
            export.export()
    assert [r.getMessage() for r in caplog.records] == ["the metrics of this replica are not exported"] * 2
