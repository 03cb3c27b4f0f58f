"""The probability of a page turn is the one that counting every event gives; clients that differ are kept apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.search.prefetch.page_turns import DEEPEST_PAGE, MAX_PAGES, UNTURNED, DecayedRatio, PageTurns
from serve_app.search.request import SearchMode, SearchRequest

HALF_LIFE_S = 10.0
FIRST = SearchRequest("zoo", "cats", limit=3)
VIEWS = st.lists(st.tuples(st.floats(0, 50), st.integers(0, DEEPEST_PAGE + 3)))


def page(number: int, query: str = "cats") -> SearchRequest:
    return replace(FIRST, query=query, offset=3 * number)


def decayed(times_s: list[float], now_s: float) -> float:
    return sum(0.5 ** ((now_s - at_s) / HALF_LIFE_S) for at_s in times_s)


@given(VIEWS)
def test_the_probability_is_the_one_that_counting_all_events_gives(views: list[tuple[float, int]]) -> None:
    turns, now_s = PageTurns(HALF_LIFE_S), 0.0
    viewed: dict[int, list[float]] = {}
    turned: dict[int, list[float]] = {}
    for elapsed_s, number in views:
        now_s += elapsed_s
        counted, before = min(number, DEEPEST_PAGE), min(number - 1, DEEPEST_PAGE)
        if before in viewed:
            turned.setdefault(before, []).append(now_s)
        expected = decayed(turned.get(counted, []), now_s) / (UNTURNED + decayed(viewed.get(counted, []), now_s))
        assert turns.view("acme", page(number, f"query {now_s}"), now_s) == pytest.approx(min(expected, 1.0), abs=1e-9)
        viewed.setdefault(counted, []).append(now_s)


def test_one_turn_is_not_certainty_and_habits_are_forgotten() -> None:
    turns = PageTurns(HALF_LIFE_S)
    assert turns.view("acme", page(0), 0) == 0
    turns.view("acme", page(1), 0)
    assert turns.view("acme", page(0), 0) == 0.5
    for now_s in range(1, 60):
        turns.view("acme", page(0), now_s)
        turns.view("acme", page(1), now_s)
    assert turns.view("acme", page(0), 60) > 0.8
    assert turns.view("acme", page(0), 10_000_000) < 0.01


OTHERS: list[dict[str, Any]] = [
    {"limit": 4},
    {"collection": "farm"},
    {"mode": SearchMode.SPARSE},
    {"facets": ("kind",)},
    {"group_by": "kind"},
    {"profile": "wide"},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda fields: next(iter(fields)))
def test_clients_that_differ_are_kept_apart(other: dict[str, Any]) -> None:
    turns = PageTurns(1e6)
    for _ in range(3):
        turns.view("acme", page(0), 0)
        turns.view("acme", page(1), 0)
    assert turns.view("acme", replace(page(0), query="dogs", filter={"must": []}, diversity=0.5), 0) > 0.5
    assert turns.view("acme", replace(page(0), **other), 0) == 0
    assert turns.view("rival", page(0), 0) == 0


def test_the_number_of_pages_is_bounded() -> None:
    turns = PageTurns(1e6)
    for limit in range(1, MAX_PAGES + 100):
        turns.view("acme", replace(FIRST, limit=limit), 0)
    assert len(turns._turns) == MAX_PAGES


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_no_ratio_is_above_one(trials: list[tuple[float, bool]]) -> None:
    ratio, now_s = DecayedRatio(HALF_LIFE_S), 0.0
    for elapsed_s, succeeds in trials:
        ratio.add_trial(now_s)
        tried_at_s, now_s = now_s, now_s + elapsed_s
        if succeeds:
            ratio.add_success(now_s, tried_at_s)
    assert 0 <= ratio.successes <= ratio.trials * (1 + 1e-9)
    if all(succeeds for _, succeeds in trials):
        assert ratio.successes == pytest.approx(ratio.trials)
