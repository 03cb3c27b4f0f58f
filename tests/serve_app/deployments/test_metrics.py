"""What a replica counted as Prometheus finds it on the node's metrics port, from a real Ray."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from serve_app.cache.entry import Kind
from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.guarded import GuardedTier
from serve_app.cache.tiers.lmdb import LmdbTier
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.cache.tiers.segments import Segments
from serve_app.deployments.metrics import RayExport, cache_samples, prefetch_samples, start_export
from serve_app.flow.breaker import FIRST_PAUSE_S
from serve_app.search.prefetch.usefulness import Kind as PrefetchKind
from serve_app.search.prefetch.usefulness import Usefulness
from serve_app.settings import MIB
from serve_app.telemetry.catalogue import cache as cache_catalogue
from serve_app.telemetry.catalogue import prefetch as prefetch_catalogue
from serve_app.telemetry.catalogue.requests import REQUESTS, STAGE_SECONDS
from serve_app.telemetry.meter import Meter, Sample
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


def test_a_source_that_fails_is_told_once_and_takes_no_other_with_it(
    ray_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    working, exported = [False], 0

    def unsteady() -> Iterable[Sample]:
        if not working[0]:
            raise RuntimeError("no figures")
        return []

    def steady() -> Iterable[Sample]:
        nonlocal exported
        exported += 1
        return Meter().samples()

    export = RayExport([unsteady, steady])
    with caplog.at_level(logging.ERROR):
        for state in (False, False, True, False):
            working[0] = state
            export.export()
    assert exported == 4
    assert [r.getMessage() for r in caplog.records] == ["some metrics of this replica are not exported"] * 2


async def test_what_the_cache_counts_becomes_samples_of_the_catalogue(tmp_path: Path) -> None:
    disk = GuardedTier(LmdbTier("l4", Segments(tmp_path, MIB, 60)), timeout_s=10)
    cache = Tiered([MemoryTier(MIB, 60), disk])
    counters = cache.counters
    assert {s.value for s in cache_samples(cache)} == {0}, "no ratio of nothing"
    counters.hits["l1", Kind.RESULT] = 5
    counters.hits["l4", Kind.RESULT] = 1
    counters.misses[Kind.RESULT] = 4
    counters.misses_seen[Kind.RESULT] = 2
    counters.misses[Kind.EMBEDDING] = 1
    counters.joined[Kind.RESULT] = 7
    counters.promotions["l1"] = 8
    counters.writes_dropped["l4"] = 9
    await cache.close()
    await disk.get_many([b"0" * 32])  # its threads have gone
    samples = cache_samples(cache)
    assert all(tuple(s.labels) == s.metric.labels for s in samples)
    assert all(tuple(s.labels.values()) in s.metric.series for s in samples)
    values = {(s.name, *s.labels.values()): s.value for s in samples}
    assert values["aidocs_cache_lookups_total", "result", "l1", "hit"] == 5
    assert values["aidocs_cache_lookups_total", "result", "all", "miss"] == 4
    assert values["aidocs_cache_repeated_misses_total", "result"] == 2
    assert values["aidocs_cache_hit_ratio", "result"] == 0.6
    assert values["aidocs_cache_infinite_ratio", "result"] == 0.75
    assert values["aidocs_cache_hit_ratio", "embedding"] == 0
    assert ("aidocs_cache_infinite_ratio", "embedding") not in values
    assert values["aidocs_cache_joined_total", "result"] == 7
    assert values["aidocs_cache_promotions_total", "l1"] == 8
    assert values["aidocs_cache_writes_dropped_total", "l4"] == 9
    assert values["aidocs_cache_failures_total", "l4"] == 1
    assert values["aidocs_cache_pause_seconds", "l4"] == FIRST_PAUSE_S
    assert ("aidocs_cache_failures_total", "l3") not in values


def test_the_catalogue_names_what_the_cache_has() -> None:
    assert tuple(Kind) == cache_catalogue.KINDS


def test_the_useful_share_of_prefetches_is_a_sample_from_the_first_on() -> None:
    usefulness = Usefulness(least_ratio=0.2, half_life_s=60)
    assert list(prefetch_samples(usefulness)) == []
    for _ in range(4):
        usefulness.made(PrefetchKind.PAGE, 0)
    usefulness.used(PrefetchKind.PAGE, 0, 0)
    (sample,) = prefetch_samples(usefulness)
    assert (sample.name, sample.labels, sample.value) == ("aidocs_prefetch_useful_ratio", {"kind": "page"}, 0.25)
    assert tuple(PrefetchKind) == prefetch_catalogue.KINDS
