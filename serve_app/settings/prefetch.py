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
    max_load: float = Field(0.1, ge=0, le=1)  # no prefetch while more than this share of a limit is in use
    least_confidence: float = Field(0.3, ge=0, le=1)  # of the times a step was taken, the share that was followed so
    least_useful_ratio: float = Field(0.2, ge=0, le=1)  # a kind below this ratio stops, apart from occasional probes
    half_life_s: PositiveFloat = 3_600.0  # of the observations
    session_idle_s: PositiveFloat = 600.0  # after a longer pause, a session's next query is not a follow-up
    timeout_s: PositiveFloat = 2.0  # for one prefetch
