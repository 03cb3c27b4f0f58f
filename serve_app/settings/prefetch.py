"""Searches made ahead of users who are likely to request them."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from serve_app.settings.section import Section


class PrefetchSettings(Section):
    """Searches made ahead of users who are likely to request them. Shares and ratios are 0 to 1.

    Off by default. Four synthetic session logs were replayed with sparse searches, on the model of sessions of
    `tests.bench.prefetch_replay`. Next pages removed 0 to 4 % of the searches that users wait for and made 1 to 13 %
    more; follow-up queries removed 0.4 to 1.4 % and made 3 to 4 % more. Processor time was not compared. Switch it on
    where users turn many pages, and compare `aidocs_prefetches_useful_total` with `aidocs_prefetches_total`.
    """

    enabled: bool = False
    """Whether searches are prefetched."""
    max_load: float = Field(0.1, ge=0, le=1)
    """Used part of a limit (searches, uploads, …) above which nothing is prefetched."""
    least_confidence: float = Field(0.3, ge=0, le=1)
    """How often a search must have followed another one before it is prefetched after it."""
    least_useful_ratio: float = Field(0.2, ge=0, le=1)
    """Used part of the prefetched searches below which prefetching stops, apart from occasional probes."""
    half_life_s: PositiveFloat = 3_600.0
    """Half-life of what was observed."""
    session_idle_s: PositiveFloat = 600.0
    """Pause in a session after which the next query is not a follow-up."""
    timeout_s: PositiveFloat = 2.0
    """Longest that one prefetched search may take."""
