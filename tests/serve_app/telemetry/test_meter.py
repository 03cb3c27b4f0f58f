"""The meter counts as Prometheus would, from any thread, and refuses what is not in the catalogue."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.telemetry.catalogue import CATALOGUE
from serve_app.telemetry.catalogue.cache import CACHE_HIT_RATIO
from serve_app.telemetry.catalogue.metric import Counter, Histogram
from serve_app.telemetry.catalogue.requests import PASS_TOKENS, REQUESTS, STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from tests.serve_app.telemetry.counted import counted

SIZES = Histogram("aidocs_size_tokens", "", labels=("of",), series=(("a",), ("b",)), buckets=(1, 10, 100))


@given(st.lists(st.floats(min_value=0, max_value=1e6)))
def test_a_bucket_counts_what_is_at_most_its_bound(observed: list[float]) -> None:
    meter = Meter([SIZES])
    for value in observed:
        meter.observe(SIZES, value, of="a")
    expected = {str(float(bound)): float(sum(value <= bound for value in observed)) for bound in SIZES.buckets}
    assert counted(meter, "aidocs_size_tokens_bucket", of="a") == expected | {"+Inf": len(observed)}
    assert counted(meter, "aidocs_size_tokens_count", of="a") == {"": len(observed)}
    assert counted(meter, "aidocs_size_tokens_sum", of="a")[""] == pytest.approx(sum(observed))
    assert counted(meter, "aidocs_size_tokens_count", of="b") == {"": 0}


def test_every_series_is_there_before_its_first_event() -> None:
    samples = [sample for sample in Meter().samples() if sample.metric is REQUESTS]
    assert {tuple(sample.labels.values()) for sample in samples} == set(REQUESTS.series)
    assert {sample.value for sample in samples} == {0}


def test_a_block_is_timed_also_if_it_raises() -> None:
    meter = Meter()
    started_s = time.perf_counter()
    with pytest.raises(RuntimeError), meter.time(STAGE_SECONDS, stage="infer", lane="bulk"):
        raise RuntimeError
    longest_s = time.perf_counter() - started_s
    assert counted(meter, "aidocs_stage_seconds_count", stage="infer", lane="bulk") == {"": 1}
    assert 0 < counted(meter, "aidocs_stage_seconds_sum", stage="infer", lane="bulk")[""] <= longest_s


def test_what_the_catalogue_does_not_know_is_a_mistake() -> None:
    meter = Meter()
    with pytest.raises(KeyError):
        meter.count(REQUESTS, route="searches", outcome="odd")
    with pytest.raises(KeyError):
        meter.time(STAGE_SECONDS, stage="search", lane="bulk")
    with pytest.raises(KeyError):
        meter.count(REQUESTS, route="searches", tenant="acme")
    with pytest.raises(TypeError, match="has the labels"):
        meter.observe(PASS_TOKENS, 3)
    with pytest.raises(KeyError):
        meter.count(Counter("aidocs_other_total", ""))
    with pytest.raises(ValueError, match="cannot grow"):
        meter.count(REQUESTS, -1, route="searches", outcome="ok")
    assert all(sample.value == 0 for sample in meter.samples())


def test_threads_lose_no_count() -> None:
    meter = Meter()
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5_000):
            meter.count(REQUESTS, route="searches", outcome="ok")
            meter.observe(PASS_TOKENS, 20, counted="real")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(meter, REQUESTS.name, route="searches", outcome="ok") == {"": 20_000}
    assert counted(meter, "aidocs_pass_tokens_bucket", counted="real")["16.0"] == 0
    assert counted(meter, "aidocs_pass_tokens_bucket", counted="real")["32.0"] == 20_000
    assert counted(meter, "aidocs_pass_tokens_sum", counted="real") == {"": 400_000}


def test_every_counter_and_histogram_of_the_catalogue_has_a_sample() -> None:
    assert {sample.metric for sample in Meter().samples()} == {m for m in CATALOGUE if m.kind != "gauge"}


def test_a_gauge_is_read_when_samples_are_taken_and_absent_without_a_value() -> None:
    meter, ratio = Meter(), None
    meter.watch(CACHE_HIT_RATIO, lambda: ratio, kind="result")
    assert counted(meter, CACHE_HIT_RATIO.name) == {}
    for ratio in (0.25, 0.0, 1.0):
        assert counted(meter, CACHE_HIT_RATIO.name) == {"": ratio}
    with pytest.raises(KeyError):
        meter.watch(CACHE_HIT_RATIO, lambda: 1, kind="odd")
    with pytest.raises(TypeError, match="has the labels"):
        meter.watch(CACHE_HIT_RATIO, lambda: 1)


@pytest.mark.parametrize("amount", [-1, float("nan")])
def test_a_counter_never_falls_and_stays_a_number(amount: float) -> None:
    meter = Meter()
    with pytest.raises(ValueError, match="cannot grow"):
        meter.count(REQUESTS, amount, **dict(zip(REQUESTS.labels, REQUESTS.series[0], strict=True)))
