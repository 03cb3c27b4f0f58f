"""Liveness and readiness of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

from serve_app.api.dependencies import Called
from serve_app.api.openapi import problems
from serve_app.api.problems import PROBLEM_JSON, RETRY_AFTER_S, Problem
from serve_app.api.responses import json_response
from serve_app.api.route import ApiRoute
from serve_app.api.schemas.health import LiveAnswer, ReadyAnswer
from serve_app.errors import PlatformError, Unavailable

OK = "ok"

router = APIRouter(route_class=ApiRoute, tags=["health"])


@router.get("/health/live", response_model=LiveAnswer, responses=problems(500))
async def live() -> Response:
    """Is the process alive? 200 while it responds at all."""
    return json_response({"status": "live"})


@router.get("/health", response_model=ReadyAnswer, responses=problems(500, 503))
@router.get("/health/ready", response_model=ReadyAnswer, responses=problems(500, 503))
async def ready(call: Called) -> Response:
    """Can it serve requests? 200 if the engine is loaded and the store can be reached. Otherwise 503, and `checks`
    says which part fails."""
    services, timeout_s = call.services, call.services.settings.health_timeout_s
    states = await asyncio.gather(*(state_of(check, timeout_s) for check in services.checks.values()))
    checks = dict(zip(services.checks, states, strict=True))
    failing = [f"{name}: {state}" for name, state in checks.items() if state != OK]
    if not failing:
        return json_response({"status": "ready", "checks": checks})
    problem = Problem(Unavailable.code, Unavailable.title, 503, "; ".join(failing))
    return json_response(
        {**problem.as_json(), "checks": checks},
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_S)},
        media_type=PROBLEM_JSON,
    )


async def state_of(check: Callable[[], Awaitable[None]], timeout_s: float) -> str:
    """OK, or the reason for the failure."""
    try:
        async with asyncio.timeout(timeout_s):
            await check()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except PlatformError as error:
        return str(error) or error.title
    except Exception as error:
        return f"failed: {type(error).__name__}"
    return OK
