"""The session that a client says its searches belong to. It is the sticky key of the release assignment."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

SESSION_HEADER = "X-Session-Id"
SESSION_ID = re.compile("[!-~]{1,128}")
SESSION_PARAMETER: dict[str, Any] = {  # for OpenAPI
    "name": SESSION_HEADER,
    "in": "header",
    "required": False,
    "description": "Any text that is the same for all searches of one person's visit, such as a random number. One "
    "release answers them all while several are in use. 1 to 128 visible ASCII characters; neither stored nor logged",
    "schema": {"type": "string", "pattern": f"^{SESSION_ID.pattern}$"},
}


def session_of(request: Request) -> str | None:
    """None without the header. Raises RequestValidationError if its value is not a session id."""
    text = request.headers.get(SESSION_HEADER)
    if text is not None and not SESSION_ID.fullmatch(text):
        wrong = "must be 1 to 128 visible ASCII characters"
        raise RequestValidationError([{"type": "session", "loc": ("header", SESSION_HEADER), "msg": wrong}])
    return text
