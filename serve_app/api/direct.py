"""The busiest routes, past FastAPI's middleware, routing and dependency injection, which take longer than an answer
from the cache.

FastAPI describes them, and what they take is read from its own reading of their signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.bodies import parsed, read_body, require_json_type
from serve_app.api.route import ApiRoute, PendingResponse
from serve_app.api.traffic import slots_of
from serve_app.settings import ApiSettings

MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required"}


class DirectRoute(ApiRoute):
    """Its endpoint takes what one dependency makes of the request and its path, and a body; nothing else."""

    def prepare_handler(self) -> None:
        [dependency] = self.dependant.dependencies
        for each in (self.dependant, dependency):
            assert not (each.query_params or each.header_params or each.cookie_params), f"{self.path}: not direct"
        assert dependency.call is not None
        self._make_call = dependency.call

    async def prepare(self, request: Request, settings: ApiSettings) -> PendingResponse | Response:
        content = await read_body(request, settings.max_body_bytes)
        call = await self._make_call(request, **request.path_params)
        if not content:
            raise RequestValidationError([MISSING])
        require_json_type(request.headers.get("content-type", ""))
        return self.work(call, content)

    def work(self, call: Any, content: bytes) -> PendingResponse | Response:
        """content: the body, some JSON if anything."""
        value = parsed(content, call.services.settings)
        slots = slots_of(value, call.services.settings)
        return PendingResponse(partial(self.endpoint, call, self.validated(value)), slots)

    def validated(self, value: Any) -> Any:
        """The JSON value as the endpoint's body."""
        assert self.body_field is not None
        body, errors = self.body_field.validate(value, {}, loc=("body",))
        if errors:
            raise RequestValidationError(errors)
        return body


class Shortcut:
    """Around an application: answers the direct ones of `routes`; all else goes on to it."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = [
            (route.path_regex, route.get_route_handler()) for route in routes if isinstance(route, DirectRoute)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            for pattern, handle in self._routes:
                if (match := pattern.fullmatch(path)) is not None:  # no control character: a line break is no end here
                    scope["path_params"] = match.groupdict()
                    response = await handle(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
