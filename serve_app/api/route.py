"""What happens around every handler: the body is read, the clock runs, and the work ends when the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serve_app.api.bodies import JsonRequest
from serve_app.api.problems import from_validation_error, internal_error, problem_response, to_problem
from serve_app.api.services import Services
from serve_app.errors import DeadlineExceeded, PlatformError
from serve_app.settings import ApiSettings

CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it
Handler = Callable[[Request], Awaitable[Response]]


class ApiRoute(APIRoute):
    """Every error of a handler becomes an answer here, so that nothing reaches the server's own error page."""

    def get_route_handler(self) -> Handler:  # type: ignore[override]  # a Coroutine is an Awaitable
        handle = super().get_route_handler()
        reads_body = self.body_field is not None

        async def handle_within_limits(request: Request) -> Response:
            settings = cast(Services, request.app.state.services).settings
            try:
                return await self._answer(request, handle, settings, reads_body)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            except PlatformError as error:
                return problem_response(request, to_problem(error))
            except RequestValidationError as error:
                return problem_response(request, from_validation_error(error))
            except HTTPException:
                raise
            except Exception as error:
                return problem_response(request, internal_error(error))

        return handle_within_limits

    def timeout_s(self, settings: ApiSettings) -> float:
        return settings.request_timeout_s

    async def _answer(self, request: Request, handle: Handler, settings: ApiSettings, reads_body: bool) -> Response:
        timeout_s = self.timeout_s(settings)
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                if reads_body:
                    request = JsonRequest(request.scope, request.receive)
                    await request.load(settings)
                return await until_disconnect(request, handle, deadline)
        except TimeoutError:
            if deadline.expired():
                raise DeadlineExceeded(f"not finished within {timeout_s:g} s; ask for less at once") from None
            raise


class UploadRoute(ApiRoute):
    def timeout_s(self, settings: ApiSettings) -> float:
        return settings.upload_timeout_s


async def until_disconnect(request: Request, handle: Handler, deadline: asyncio.Timeout) -> Response:
    """The handler's answer. A client that goes brings the deadline forward to now, which cancels the handler where it
    waits. Raises ClientDisconnect then."""
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if not deadline.expired():
            deadline.reschedule(asyncio.get_running_loop().time())

    watcher = asyncio.create_task(watch())
    try:
        return await handle(request)
    except asyncio.CancelledError:
        if gone:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
