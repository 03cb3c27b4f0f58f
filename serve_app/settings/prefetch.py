"""Searches made ahead of users who are likely to request them."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from serve_app.settings.section import Section


class PrefetchSettings(Section):
    """The next page of results, searched before the user turns to it. Probabilities and ratios are from 0 to 1."""

    enabled: bool = False
    """Whether the next page is prefetched. It is off by default because in each of four replayed session logs it added
    more processor time (1 to 8 %) than it removed of the searches that users wait for (0 to 6 %), as
    `python -m tests.bench.prefetch_replay --cranfield FOLDER --sessions 150` shows."""
    max_load: float = Field(0.1, ge=0, le=1)
    """Used part of a limit of concurrent requests above which nothing is prefetched."""
    least_confidence: float = Field(0.3, ge=0, le=1)
    """Probability that the next page is requested, below which it is not prefetched."""
    least_useful_ratio: float = Field(0.2, ge=0, le=1)
    """Used part of the prefetched pages below which prefetching stops, apart from occasional probes."""
    half_life_s: PositiveFloat = 3_600.0
    """Time after which an observation counts half."""
    timeout_s: PositiveFloat = 2.0
    """Longest time that one prefetch may take."""
