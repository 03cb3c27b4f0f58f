"""Metrics follow Prometheus' naming conventions, and their number of series is bounded."""

from __future__ import annotations

import pytest

from serve_app.cache.entry import EntryKind
from serve_app.telemetry.catalogue import CATALOGUE, cache
from serve_app.telemetry.catalogue.metric import Counter, Gauge, Histogram, combined
from serve_app.telemetry.catalogue.requests import LANES
from serve_app.types import Lane


def test_names_are_unique() -> None:
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


def test_a_replica_has_few_enough_series() -> None:
    """A node's agent drops what is beyond 2,000 series of a name, from all its replicas together."""
    for metric in CATALOGUE:
        parts = len(metric.buckets) + 1 if isinstance(metric, Histogram) else 1
        assert len(metric.series) * parts <= 2_000 // 12, f"{metric.name}: too many for a dozen replicas on a node"
        assert len(set(metric.series)) == len(metric.series)


def test_lanes_are_those_of_the_engine() -> None:
    assert tuple(Lane) == LANES


def test_kinds_are_those_of_the_cache() -> None:
    assert tuple(EntryKind) == cache.KINDS


@pytest.mark.parametrize("name", ["requests_total", "aidocs_requests", "aidocs_Requests_total", "aidocs__x_total"])
def test_a_name_against_the_conventions_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="begins with aidocs_"):
        Counter(name, "")


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="a value for each"):
        Gauge("aidocs_x_ratio", "", labels=("a",))
    with pytest.raises(ValueError, match="ascend"):
        Histogram("aidocs_x_seconds", "", buckets=(1, 1))
    assert combined("ab", "c") == (("a", "c"), ("b", "c"))
