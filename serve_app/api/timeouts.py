"""The time limit of a request: the route's limit, or a lower one that the client sets in a header."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


def timeout_of(request: Request, longest_s: float) -> float:
    """The limit in seconds. Raises RequestValidationError if the header is not a number within the route's limit."""
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return longest_s
    longest_ms = int(longest_s * 1_000)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= longest_ms):
        wrong = f"must be a whole number of milliseconds from 1 to {longest_ms}"
        raise RequestValidationError([{"type": "timeout", "loc": ("header", TIMEOUT_HEADER), "msg": wrong}])
    return int(text) / 1_000


def timeout_parameter(longest_s: float) -> dict[str, Any]:
    """The header's entry in the OpenAPI document."""
    return {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "required": False,
        "description": "How long the client waits. Unfinished work is then dropped, and the status is 504",
        "schema": {"type": "integer", "minimum": 1, "maximum": int(longest_s * 1_000)},
    }
