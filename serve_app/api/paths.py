"""Refuses paths with control characters."""

from __future__ import annotations

import re

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.problems import problem_response, to_problem
from serve_app.errors import InvalidInput

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RefuseControlCharacters:
    """Responds with 422 before routing. The router's patterns end in `$`, which matches before a final line break too:
    `DELETE …/documents/a%0a` would delete `a`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and CONTROL_CHARACTER.search(scope["path"]):
            error = InvalidInput("the path has a control character, which no name may contain: remove it")
            await problem_response(Request(scope), to_problem(error))(scope, receive, send)
        else:
            await self._app(scope, receive, send)
