"""The table of follow-ups is what counting all events would give, within its bounds; the account of use likewise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.flow.recent import Recent
from serve_app.search.prefetch.follow_ups import PRIOR, FollowUps
from serve_app.search.prefetch.usefulness import PROBE_IN, PrefetchKind, Usefulness

HALF_LIFE_S = 10.0
STEPS = "abcd"
EVENTS = st.lists(
    st.tuples(st.floats(0, 50), st.sampled_from(["take", "follow"]), st.sampled_from(STEPS), st.sampled_from(STEPS))
)


class EveryEvent:
    """The model: remembers all, counts at the end."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, str]] = []
        self.followed: list[tuple[float, str, str]] = []

    def count(self, times_s: list[float], now_s: float) -> float:
        return sum(0.5 ** ((now_s - at_s) / HALF_LIFE_S) for at_s in times_s)

    def share(self, before: str, after: str, now_s: float) -> float:
        followed = self.count([t for t, a, b in self.followed if (a, b) == (before, after)], now_s)
        taken = self.count([t for t, a in self.taken if a == before], now_s)
        return min(followed / (PRIOR + taken), 1.0)


@given(EVENTS)
def test_the_likeliest_has_the_share_that_counting_all_events_gives(events: list[tuple[float, str, str, str]]) -> None:
    table, model, now_s = FollowUps[str](HALF_LIFE_S, max_next=len(STEPS)), EveryEvent(), 0.0
    for elapsed_s, what, step, after in events:
        now_s += elapsed_s
        if what == "take":
            table.take(step, now_s)
            model.taken.append((now_s, step))
        else:
            table.follow(step, after, now_s)
            if any(step == taken for _, taken in model.taken):
                model.followed.append((now_s, step, after))
        for each in STEPS:
            likely = table.likely(each, now_s)
            shares = {after: model.share(each, after, now_s) for after in STEPS}
            assert (likely.share if likely else 0.0) == pytest.approx(max(shares.values()), abs=1e-9)
            assert likely is None or shares[likely.step] == pytest.approx(likely.share, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))), st.integers(1, 5), st.integers(1, 3))
def test_the_bounds_hold(events: list[tuple[int, int]], max_steps: int, max_next: int) -> None:
    table = FollowUps[int](HALF_LIFE_S, max_steps, max_next)
    for now_s, (step, after) in enumerate(events):
        table.take(step, now_s)
        table.follow(step, after, now_s)
        assert len(table) <= max_steps
        assert all(len(row.next) <= max_next for row in table._rows._values.values())
        assert table.likely(step, now_s) is not None, "the step taken last is known"


def test_what_is_frequent_stays_among_many_that_are_not() -> None:
    table = FollowUps[int](HALF_LIFE_S, max_next=2)
    for now_s in range(200):
        table.take(0, now_s)
        table.follow(0, 1 if now_s % 2 else now_s + 2, now_s)
    likely = table.likely(0, 200)
    assert likely is not None and likely.step == 1 and likely.share > 0.4


def test_once_is_not_certain_and_habits_are_forgotten() -> None:
    table = FollowUps[str](HALF_LIFE_S)
    table.take("a", 0)
    table.follow("a", "b", 0)
    first = table.likely("a", 0)
    assert first is not None and first.share == 0.5
    for now_s in range(1, 60):
        table.take("a", now_s)
        table.follow("a", "c", now_s)
    later = table.likely("a", 60)
    assert later is not None and later.step == "c" and later.share > 0.8
    long_after = table.likely("a", 10_000_000)
    assert long_after is not None and long_after.share < 0.01


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 6))), st.integers(1, 4))
def test_the_most_recent_stay(calls: list[tuple[str, int]], capacity: int) -> None:
    recent, order = Recent[int, int](capacity), list[int]()  # order: the one used last at the end
    for call, key in calls:
        if call == "put":
            recent.put(key, -key)
        else:
            assert (recent.get(key) if call == "get" else recent.pop(key)) == (-key if key in order else None)
        stays = call == "put" or (call == "get" and key in order)
        order = ([each for each in order if each != key] + [key] * stays)[-capacity:]
        assert len(recent) == len(order)
        assert [recent.look(each) for each in order] == [-each for each in order]


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.sampled_from(PrefetchKind)), max_size=60))
def test_no_ratio_is_above_one_and_kinds_do_not_mix(made: list[tuple[float, bool, PrefetchKind]]) -> None:
    usefulness, now_s = Usefulness(0.5, HALF_LIFE_S), 0.0
    for elapsed_s, is_used, kind in made:
        usefulness.made(kind, now_s)
        made_at_s, now_s = now_s, now_s + elapsed_s
        if is_used:
            usefulness.used(kind, made_at_s, now_s)
    for kind in PrefetchKind:
        used = {is_used for _, is_used, each in made if each is kind}
        ratio = usefulness.ratio(kind)
        if not used:
            assert ratio is None
        elif ratio is not None:  # else all is forgotten
            assert 0 <= ratio <= 1
            assert ratio == pytest.approx(1.0) if used == {True} else ratio == 0 or True in used


def test_a_kind_that_is_useless_is_off_but_for_probes_and_comes_back() -> None:
    usefulness = Usefulness(0.2, HALF_LIFE_S)
    made = 0
    while usefulness.is_on(PrefetchKind.QUERY, 0):
        usefulness.made(PrefetchKind.QUERY, 0)
        made += 1
    assert made == 33  # 8 imagined useful ones, of 8 + 33
    assert sum(usefulness.permits(PrefetchKind.QUERY, 0) for _ in range(10 * PROBE_IN)) == 10
    assert usefulness.is_on(PrefetchKind.PAGE, 0)
    for _ in range(3):
        usefulness.used(PrefetchKind.QUERY, 0, 0)
    assert usefulness.is_on(PrefetchKind.QUERY, 0), "its probes were useful"
    for _ in range(100):
        usefulness.made(PrefetchKind.QUERY, 0)
    assert not usefulness.is_on(PrefetchKind.QUERY, HALF_LIFE_S)
    assert usefulness.is_on(PrefetchKind.QUERY, 10 * HALF_LIFE_S), "its failures are forgotten"
