"""The rule, its sketch and the sketch of seen keys."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from serve_app.cache.promotion import Cost, FrequencySketch, worthwhile
from serve_app.cache.seen import SeenKeys
from tests.contracts.cache_tier import key

TIMES = st.floats(0, 1)
COSTS = st.builds(Cost, TIMES, TIMES)


@given(st.integers(1, 255), COSTS, COSTS)
def test_nothing_is_promoted_without_benefit(asked: int, far: Cost, near: Cost) -> None:
    assert not worthwhile(1, far, near)
    if far.get_s <= near.get_s:
        assert not worthwhile(asked, far, near)
    if worthwhile(asked, far, near):
        assert (asked - 1) * far.get_s > near.put_s
        assert worthwhile(asked + 1, far, near)


def test_examples() -> None:
    memory, redis, disk = Cost(1e-6, 5e-6), Cost(600e-6, 700e-6), Cost(300e-6, 400e-6)
    assert worthwhile(2, redis, memory)
    assert not worthwhile(100, disk, redis), "a slower tier is no promotion"
    assert not worthwhile(2, Cost(800e-6), redis) and worthwhile(5, Cost(800e-6), redis)


def test_costs_follow_what_is_measured() -> None:
    cost = Cost()
    for _ in range(100):
        cost.observe_get(0.5)
        cost.observe_put(0.25)
    assert cost == Cost(0.5, 0.25)
    for _ in range(100):
        cost.observe_get(0.1)
    assert abs(cost.get_s - 0.1) < 1e-4


@given(st.lists(st.integers(0, 30), max_size=300))
def test_the_sketch_never_says_too_little(names: list[int]) -> None:
    sketch, counts = FrequencySketch(256), Counter[int]()
    for name in names:
        counts[name] += 1
        assert sketch.add(key(name)) >= counts[name]


def test_the_sketch_is_nearly_exact_and_forgets() -> None:
    sketch = FrequencySketch(1 << 12)
    for number in range(2_000):
        sketch.add(key(number))
    said = [sketch.add(key(number)) for number in range(1_000)]
    assert sum(count == 2 for count in said) > 900
    for _ in range(400):
        sketch.add(key("often"))
    assert sketch.add(key("often")) == 255
    for number in range(3 * 10 * (1 << 12)):
        sketch.add(key(("other", number % 5_000)))
    assert sketch.add(key("often")) < 64


def test_seen_keys_are_known_and_new_ones_are_rarely_taken_for_them() -> None:
    seen = SeenKeys(capacity=5_000)
    wrong = sum(seen.add(key(number)) for number in range(10_000))
    assert wrong <= 0.03 * 10_000
    assert all(seen.add(key(number)) for number in range(9_999, 5_000, -1))


def test_seen_keys_forget_in_the_end() -> None:
    seen = SeenKeys(capacity=1_000)
    for number in range(20_000):
        seen.add(key(number))
    assert sum(seen.add(key(number)) for number in range(500)) < 50
