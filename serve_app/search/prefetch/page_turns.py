"""How often users turn from one page of results to the next. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from serve_app.flow.recent import Recent
from serve_app.search.request import SearchRequest

UNTURNED = 1.0  # views without a turn that every page starts with, so that one turn is not certainty
DEEPEST_PAGE = 5  # this page and all later ones are counted together
MAX_PAGES = 2_048


@dataclass(slots=True)
class DecayedRatio:
    """Successes over trials, where an event of age t counts 0.5 ** (t / half_life_s)."""

    half_life_s: float
    trials: float = 0.0
    successes: float = 0.0
    counted_at_s: float = 0.0

    def decay(self, now_s: float) -> None:
        left = self._weight(now_s - self.counted_at_s)
        self.trials *= left
        self.successes *= left
        self.counted_at_s = max(now_s, self.counted_at_s)

    def add_trial(self, now_s: float) -> None:
        self.decay(now_s)
        self.trials += 1

    def add_success(self, now_s: float, tried_at_s: float) -> None:
        """The success weighs what its trial still does, so successes never exceed trials."""
        self.decay(now_s)
        self.successes += self._weight(now_s - tried_at_s)

    def _weight(self, age_s: float) -> float:
        return float(0.5 ** (max(age_s, 0.0) / self.half_life_s))


class PageTurns:
    """For each of the MAX_PAGES pages viewed last: how often the next page was requested after it.

    A page here is a page number of one client, whatever the query and the filter are: users of one client turn pages
    alike for all queries. The limit, mode, facets, grouping and profile of its requests identify a client."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._turns: Recent[tuple[Hashable, ...], DecayedRatio] = Recent(MAX_PAGES)

    def view(self, tenant: str, request: SearchRequest, now_s: float) -> float:
        """Count this view, and a turn of the page before it. Returns the probability that the next page follows:
        turns / (UNTURNED + views) of this page, without this view."""
        shape = request.collection, request.limit, request.mode, request.facets, request.group_by, request.profile
        client = (tenant, *shape)
        number = request.offset // request.limit  # from 0
        if number > 0:
            before = self._turns.get((*client, min(number - 1, DEEPEST_PAGE)))
            if before is not None:
                before.add_success(now_s, now_s)
        page = (*client, min(number, DEEPEST_PAGE))
        turns = self._turns.get(page) or DecayedRatio(self._half_life_s)
        self._turns.put(page, turns)
        turns.decay(now_s)
        probability = min(turns.successes / (UNTURNED + turns.trials), 1.0)
        turns.add_trial(now_s)
        return probability
