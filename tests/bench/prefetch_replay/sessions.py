"""A synthetic log of search sessions, drawn from judged queries by a seeded model. Pure.

The model's assumptions, none of them measured on real users:
- Sessions begin at random times (a Poisson process). The popularity of the first query follows Zipf's law with
  exponent 1.
- Until a user has seen a relevant document, they turn to the next page with probability `turn_unsatisfied`, then with
  `turn_satisfied`. Nobody reads beyond page MAX_PAGES.
- After the last page, another query follows with probability `follow_up`. It is one of the NEAREST queries by the
  cosine of their embeddings, the k-th nearest with a weight of 1 / k.
- A page is read for READING_S seconds, which is always longer than a prefetch takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.types import Vector

NEAREST = 5
MAX_PAGES = 5
READING_S = 20.0


@dataclass(frozen=True, slots=True)
class UseModel:
    """Probabilities, 0 to 1; session_interval_s is the mean time between the starts of two sessions."""

    name: str
    turn_satisfied: float
    turn_unsatisfied: float
    follow_up: float
    session_interval_s: float = 60.0


MODELS = (
    UseModel("few page turns", turn_satisfied=0.05, turn_unsatisfied=0.3, follow_up=0.4),
    UseModel("many page turns", turn_satisfied=0.25, turn_unsatisfied=0.6, follow_up=0.4),
)


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """page: counted from 0."""

    at_s: float
    session: str
    query: str
    page: int


def session_log(
    queries: Mapping[str, str],
    vectors: Vector,
    first_relevant_page: Mapping[str, int],
    model: UseModel,
    *,
    sessions: int,
    seed: int,
) -> list[LoggedSearch]:
    """A log in order of time. queries: text by id. vectors: (queries, dim) unit vectors in the same order.
    first_relevant_page: by query id; missing if no relevant document is in the first MAX_PAGES pages."""
    rng = np.random.default_rng(seed)
    ids = list(queries)
    popular = rng.permutation(len(ids))
    weights = 1 / np.arange(1, len(ids) + 1)
    nearest = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")
    log: list[LoggedSearch] = []
    started_s = 0.0
    for number in range(sessions):
        started_s += rng.exponential(model.session_interval_s)
        first = int(popular[rng.choice(len(ids), p=weights / weights.sum())])
        steps = one_session(rng, first, nearest, [first_relevant_page.get(id) for id in ids], model)
        for place, (query, page) in enumerate(steps):
            log.append(LoggedSearch(started_s + place * READING_S, f"session-{number}", queries[ids[query]], page))
    return sorted(log, key=lambda search: search.at_s)


def one_session(
    rng: np.random.Generator, query: int, nearest: Vector, first_relevant_page: Sequence[int | None], model: UseModel
) -> Iterator[tuple[int, int]]:
    """Positions of the queries, and page numbers."""
    weights = 1 / np.arange(1, NEAREST + 1)
    while True:
        for page in range(MAX_PAGES):
            yield query, page
            relevant = first_relevant_page[query]
            is_satisfied = relevant is not None and page >= relevant
            if rng.random() >= (model.turn_satisfied if is_satisfied else model.turn_unsatisfied):
                break
        if rng.random() >= model.follow_up:
            return
        others = nearest[query][nearest[query] != query]
        query = int(others[rng.choice(NEAREST, p=weights / weights.sum())])
