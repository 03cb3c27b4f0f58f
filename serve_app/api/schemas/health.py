"""Bodies of the health routes."""

from __future__ import annotations

from typing import Literal

from serve_app.api.schemas.body import Answer


class LiveAnswer(Answer):
    status: Literal["live"]


class ReadyAnswer(Answer):
    """`checks` has "ok" for each part of the replica."""

    status: Literal["ready"]
    checks: dict[str, str]
