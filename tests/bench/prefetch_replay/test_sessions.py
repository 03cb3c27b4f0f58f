"""The session model gives one log for each seed, in order of time, with the expected page turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.bench.prefetch_replay.sessions import MAX_PAGES, MODELS, LoggedSearch, UseModel, session_log

QUERIES = {f"q{number}": f"query {number}" for number in range(20)}
ANGLES = np.linspace(0, 3, len(QUERIES))
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def log(model: UseModel, *, seed: int = 1, relevant_page: int = 0) -> list[LoggedSearch]:
    return session_log(QUERIES, VECTORS, dict.fromkeys(QUERIES, relevant_page), model, sessions=300, seed=seed)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_seed_gives_one_log_in_order_of_time(model: UseModel) -> None:
    first = log(model)
    assert first == log(model) != log(model, seed=2)
    assert [search.at_s for search in first] == sorted(search.at_s for search in first)
    assert len({search.session for search in first}) == 300


def test_pages_are_turned_as_often_as_the_model_says() -> None:
    model = replace(MODELS[0], turn_satisfied=0.0, turn_unsatisfied=1.0, follow_up=0.0)
    assert {search.page for search in log(model)} == {0}, "the first page satisfies"
    assert len(log(model, relevant_page=2)) == 3 * 300
    assert len(log(model, relevant_page=MAX_PAGES)) == MAX_PAGES * 300


def test_a_follow_up_is_a_similar_query() -> None:
    model = replace(MODELS[0], turn_satisfied=0.0, turn_unsatisfied=0.0, follow_up=0.5)
    by_session: dict[str, list[int]] = {}
    for search in log(model):
        by_session.setdefault(search.session, []).append(int(search.query.split()[1]))
    steps = [abs(a - b) for path in by_session.values() for a, b in pairwise(path)]
    assert 200 < len(steps) < 400, "one follow-up a session on average"
    assert min(steps) >= 1 and max(steps) <= 5
