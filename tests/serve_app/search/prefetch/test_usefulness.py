"""Prefetching that is useless switches itself off, apart from probes, and on again."""

from __future__ import annotations

import pytest

from serve_app.search.prefetch.usefulness import PROBE_IN, Usefulness

HALF_LIFE_S = 10.0


def test_useless_prefetching_is_off_apart_from_probes_and_comes_back() -> None:
    usefulness = Usefulness(0.2, HALF_LIFE_S)
    made = 0
    while usefulness.is_on(0):
        usefulness.made(0)
        made += 1
    assert made == 33  # 8 useful ones at the start, of 8 + 33
    assert sum(usefulness.permits(0) for _ in range(10 * PROBE_IN)) == 10
    for _ in range(3):
        usefulness.used(0, 0)
    assert usefulness.is_on(0), "its probes were useful"
    assert all(usefulness.permits(0) for _ in range(PROBE_IN))
    for _ in range(100):
        usefulness.made(0)
    assert not usefulness.is_on(HALF_LIFE_S)
    assert usefulness.is_on(10 * HALF_LIFE_S), "its failures are forgotten"


def test_the_ratio_counts_recent_prefetches_most_and_is_none_before_the_first() -> None:
    usefulness = Usefulness(0.2, HALF_LIFE_S)
    assert usefulness.ratio() is None
    usefulness.made(0)
    assert usefulness.ratio() == 0
    usefulness.made(2 * HALF_LIFE_S)
    usefulness.used(3 * HALF_LIFE_S, 2 * HALF_LIFE_S)
    assert usefulness.ratio() == pytest.approx(0.5 / (0.5 + 0.125))
