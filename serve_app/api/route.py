"""What happens around every handler: the clock runs, the body is read, what is too much is refused, and the work ends
when the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serve_app.api.bodies import JsonRequest
from serve_app.api.problems import (
    from_http_exception,
    from_validation_error,
    internal_error,
    problem_response,
    to_problem,
)
from serve_app.api.services import Services
from serve_app.api.timeouts import timeout_of
from serve_app.api.traffic import Limiters, Traffic
from serve_app.errors import DeadlineExceeded, PlatformError
from serve_app.flow.deadline import deadline
from serve_app.flow.limiter import Limiter
from serve_app.settings import ApiSettings
from serve_app.telemetry.catalogue.requests import REQUESTS

UNWATCHED_S = 0.005  # what the cache answers is answered before, and needs no task that watches
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it
Handler = Callable[[Request], Awaitable[Response]]
OUTCOMES = {429: "overloaded", CLIENT_CLOSED_REQUEST: "gone", 503: "unavailable", 504: "timeout"}


@dataclass(frozen=True, slots=True)
class PendingResponse:
    """What remains to be done for a request that has been read. slots: what it counts for in its kind's limit."""

    run: Callable[[], Awaitable[Response]]
    slots: int = 1


class ApiRoute(APIRoute):
    """Every error of a handler becomes an answer here, so that nothing reaches the server's own error page.

    traffic: what its requests are limited with; None is never refused and takes no deadline from the client.
    """

    traffic: ClassVar[Traffic | None] = None

    def get_route_handler(self) -> Handler:  # type: ignore[override]  # a Coroutine is an Awaitable
        self.prepare_handler()
        route = self.traffic.name.lower() if self.traffic else "other"

        async def handle_within_limits(request: Request) -> Response:
            services = cast(Services, request.app.state.services)
            response = await self._respond(request, services.settings)
            services.meter.count(REQUESTS, route=route, outcome=outcome_of(response.status_code))
            return response

        return handle_within_limits

    def prepare_handler(self) -> None:
        """Before the first request."""
        self._handle = super().get_route_handler()

    async def prepare(self, request: Request, settings: ApiSettings) -> PendingResponse | Response:
        """Reads the request. The answer, if that is at hand; else what remains to be done for it."""
        if self.body_field is not None:
            request = JsonRequest(request.scope, request.receive)
            await request.load(settings)
        return PendingResponse(partial(self._handle, request))

    def may_be_at_hand(self, request: Request) -> bool:
        """Whether `prepare` may have the answer, so that the request is read though the limit is full."""
        return False

    def longest_s(self, settings: ApiSettings) -> float:
        return settings.request_timeout_s

    async def _respond(self, request: Request, settings: ApiSettings) -> Response:
        try:
            return await self._answer(request, settings)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except PlatformError as error:
            return problem_response(request, to_problem(error))
        except RequestValidationError as error:
            return problem_response(request, from_validation_error(error))
        except HTTPException as error:
            return problem_response(request, from_http_exception(request, error))
        except Exception as error:
            return problem_response(request, internal_error(error))

    async def _answer(self, request: Request, settings: ApiSettings) -> Response:
        longest_s = self.longest_s(settings)
        timeout_s = longest_s if self.traffic is None else timeout_of(request, longest_s)
        ends_at_s = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(ends_at_s) as clock:
                limiter = self._limiter(request)
                if limiter is not None and not self.may_be_at_hand(request):
                    limiter.require_room()  # before the body is read: to parse what is then refused is for nothing
                work = await self.prepare(request, settings)  # before it is admitted: who sends slowly takes no slot
                if isinstance(work, Response):
                    return work
                admitted = nullcontext() if limiter is None else limiter.admit(work.slots)
                with admitted, deadline(ends_at_s):
                    return await until_disconnect(request, work, clock)
        except TimeoutError:
            if clock.expired():
                raise DeadlineExceeded(f"not finished within {timeout_s:g} s; ask for less at once") from None
            raise

    def _limiter(self, request: Request) -> Limiter | None:
        return None if self.traffic is None else cast(Limiters, request.app.state.limiters)[self.traffic]


class LookupRoute(ApiRoute):
    traffic = Traffic.LOOKUPS


class UploadRoute(ApiRoute):
    traffic = Traffic.UPLOADS

    def longest_s(self, settings: ApiSettings) -> float:
        return settings.upload_timeout_s


def outcome_of(status: int) -> str:
    """As the metric names it."""
    if status in OUTCOMES:
        return OUTCOMES[status]
    return "ok" if status < 400 else "rejected" if status < 500 else "failed"


async def until_disconnect(request: Request, work: PendingResponse, clock: asyncio.Timeout) -> Response:
    """The work's answer. A client that goes brings the deadline forward to now, which cancels the work where it waits.
    Raises ClientDisconnect then."""
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if not clock.expired():
            clock.reschedule(loop.time())

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    beginning = loop.call_later(UNWATCHED_S, begin)
    try:
        return await work.run()
    except asyncio.CancelledError:
        if gone:
            raise ClientDisconnect from None
        raise
    finally:
        beginning.cancel()
        if watcher is not None:
            watcher.cancel()
