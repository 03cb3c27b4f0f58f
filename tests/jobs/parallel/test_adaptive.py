"""With services that are simulated: their throughput at a number of requests at once, and the time it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.adaptive import Concurrency, Phase, Window


def settle(concurrency: Concurrency, rate: Callable[[int], float], windows: int) -> list[Concurrency]:
    seen = []
    for _ in range(windows):
        concurrency = concurrency.after_window(rate(concurrency.limit))
        seen.append(concurrency)
    return seen


@given(st.integers(1, 256), st.integers(1, 64), st.floats(0.001, 10))
def test_a_service_with_room_for_so_many_is_filled(room: int, first: int, latency_s: float) -> None:
    seen = settle(Concurrency.start(first, 256), lambda limit: min(limit, room) / latency_s, 400)
    settled = [each.kept for each in seen[300:]]
    reached = [min(limit, room) / room for limit in settled]
    assert min(reached) >= 0.85, "no more than a step below what there is"
    assert max(settled) <= max(1.5 * room, room + 2), "and not much above it"


@given(st.integers(2, 100), st.integers(1, 100))
def test_a_service_that_suffers_from_too_many_is_spared(best: int, first: int) -> None:
    """As a disk that seeks: above its best number each more costs."""
    rate = lambda limit: float(limit if limit <= best else best * best / limit)  # noqa: E731
    last = settle(Concurrency.start(first, 256), rate, 400)[-1]
    assert rate(last.kept) >= 0.75 * rate(best)


@given(st.lists(st.floats(0.01, 1e6), max_size=60), st.integers(1, 8), st.integers(1, 300))
def test_it_stays_within_its_bounds(rates: list[float], floor: int, ceiling: int) -> None:
    concurrency = Concurrency.start(32, max(floor, ceiling), floor)
    for rate in rates:
        concurrency = concurrency.after_window(rate)
        assert floor <= concurrency.limit <= max(floor, ceiling)


def test_memory_lowers_it_for_good() -> None:
    concurrency = Concurrency.start(64, 256, floor=1).over_memory()
    assert (concurrency.limit, concurrency.ceiling, concurrency.phase) == (32, 32, Phase.HOLD)
    assert max(each.limit for each in settle(concurrency, float, 100)) == 32
    for _ in range(9):
        concurrency = concurrency.over_memory()
    assert concurrency.limit == 1


def test_a_window_counts_what_ran_under_its_limit_alone() -> None:
    window = Window.of(4, now_s=10.0, least_s=0.5)
    assert [window.count(2, 10.1), window.count(2, 10.2)] == [None, None], "begun before"
    assert window.count(7, 10.3) is None
    assert window.count(1, 10.4) is None, "too short"
    assert window.count(2, 11.2) == pytest.approx(10 / 1.0)
