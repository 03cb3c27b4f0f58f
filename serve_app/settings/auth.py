"""Who may ask."""

from __future__ import annotations

from typing import Literal

from serve_app.settings.section import Section


class AuthSettings(Section):
    mode: Literal["off"] = "off"  # off: every request is the local development principal
