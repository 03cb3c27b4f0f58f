"""The busiest routes, past FastAPI's routing and dependency injection, which take longer than an answer from the cache.

FastAPI describes them, and what they take is read from its own reading of their signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.route import ApiRoute, Handler
from serve_app.api.traffic import Traffic

MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required"}


class DirectRoute(ApiRoute):
    """Its endpoint takes what one dependency makes of the request and its path, and a body; nothing else."""

    def endpoint_handler(self) -> Handler:
        endpoint, body_field = self.endpoint, self.body_field
        [dependency] = self.dependant.dependencies
        make_call = dependency.call
        for each in (self.dependant, dependency):
            assert not (each.query_params or each.header_params or each.cookie_params), f"{self.path}: not direct"
        assert make_call is not None
        assert body_field is not None

        async def handle(request: Request) -> Response:
            call = await make_call(request, **request.path_params)
            if not await request.body():
                raise RequestValidationError([MISSING])
            body, errors = body_field.validate(await request.json(), {}, loc=("body",))
            if errors:
                raise RequestValidationError(errors)
            response: Response = await endpoint(call, body)
            return response

        return handle


class SearchRoute(DirectRoute):
    traffic = Traffic.SEARCHES


class EmbeddingRoute(DirectRoute):
    traffic = Traffic.EMBEDDINGS


class Shortcut:
    """Middleware that answers the direct ones of `routes`; all else goes on."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = [(route, route.get_route_handler()) for route in routes if isinstance(route, DirectRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route, handle in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    response = await handle(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
