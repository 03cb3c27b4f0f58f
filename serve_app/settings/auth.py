"""Who may use the API."""

from __future__ import annotations

from typing import Literal

from serve_app.settings.section import Section


class AuthSettings(Section):
    """Who may use the API."""

    mode: Literal["off"] = "off"
    """`off`: there is no login, and every request acts as the local development principal."""
