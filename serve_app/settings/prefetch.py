"""Searches made ahead of those who are likely to ask them."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from serve_app.settings.section import Section


class PrefetchSettings(Section):
    """Searches made ahead of those who are likely to ask them. A share or a ratio is 0 to 1."""

    enabled: bool = True
    max_load: float = Field(0.1, ge=0, le=1)  # share of a limit (searches, uploads, …) in use above which none is made
    least_confidence: float = Field(0.3, ge=0, le=1)  # share of the times that it followed
    least_useful_ratio: float = Field(0.2, ge=0, le=1)  # useful over all, below which all but a few probes end
    half_life_s: PositiveFloat = 3_600.0  # of what was observed
    session_idle_s: PositiveFloat = 600.0  # after which a session's next query is no follow-up
    timeout_s: PositiveFloat = 2.0  # for one
