"""Errors as HTTP responses: one table of statuses, two formats (RFC 9457 problems; OpenAI's envelope on its routes)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from serve_app.api.responses import json_response
from serve_app.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    MalformedJson,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PlatformError,
    Unavailable,
    UnsupportedMediaType,
)

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:ai-docs:error:"
OPENAI_ROUTES = ("/v1/embeddings", "/v1/models")
RETRY_AFTER_S = 1
MAX_REPORTED_ERRORS = 20
PLAINER = {  # by pydantic's type of error, in place of its message
    "extra_forbidden": "unknown field",
    "missing": "is required",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
}


# Looked up along the class hierarchy: an error without a status of its own has its parent's.
STATUS: dict[type[PlatformError], int] = {
    PlatformError: 500,
    InvalidInput: 422,
    MalformedJson: 400,
    UnsupportedMediaType: 415,
    PayloadTooLarge: 413,
    NotFound: 404,
    Conflict: 409,
    Overloaded: 429,
    DeadlineExceeded: 504,
    Unavailable: 503,
}


@dataclass(frozen=True)
class Problem:
    """A problem of RFC 9457. code: last part of `type`. errors: each fault of an invalid body or parameter, such as
    `{"pointer": "#/documents/0/id", "detail": …}` or `{"parameter": "limit", "detail": …}`."""

    code: str
    title: str
    status: int
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        members = asdict(self)
        del members["headers"]
        content = {"type": TYPE_PREFIX + members.pop("code"), **members}
        if not self.errors:
            del content["errors"]
        return content

    def as_openai(self) -> dict[str, Any]:
        param = name_of(self.errors[0]) if self.errors else None
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": self.detail, "type": kind, "param": param, "code": self.code}}


def status_of(error: PlatformError) -> int:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def to_problem(error: PlatformError) -> Problem:
    """The problem for an error. A status of 500 is a bug of ours: its text is logged and not returned."""
    status = status_of(error)
    if status == 500:
        return internal_error(error)
    headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if isinstance(error, Overloaded) else {}
    return Problem(error.code, error.title, status, str(error) or error.title, headers=headers)


def internal_error(error: BaseException) -> Problem:
    """Log the traceback. The problem does not reveal it to the client."""
    logger.error("unexpected error in a request", exc_info=error)
    detail = "The server failed, and its log has the reason. You may send the request again."
    return Problem(PlatformError.code, PlatformError.title, 500, detail)


def from_http_exception(request: Request, error: HTTPException) -> Problem:
    """The problem for an error that the framework raises: unknown route, wrong method."""
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    detail, headers = error.detail, error.headers or {}
    path = request.url.path[:200]
    if status == HTTPStatus.NOT_FOUND:
        detail = f"{path} is not a route; /docs lists them"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request))
        detail, headers = f"{path} does not accept {request.method}; it accepts {allowed}", {"Allow": allowed}
    return Problem(code, status.phrase, status, detail, headers=headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods that this path accepts. The framework names only those of the first matching route. A folder of
    static files matches every method but serves only GET and HEAD."""
    routes = request.app.router.routes
    allowed = [
        method
        for method in ("DELETE", "GET", "HEAD", "POST")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return allowed or ["GET", "HEAD"]


def from_validation_error(error: RequestValidationError) -> Problem:
    """The problem for invalid input. It never repeats the input, which may be huge, secret or no JSON at all."""
    items = error.errors()
    errors = [
        place_of(item["loc"]) | {"detail": PLAINER.get(item["type"], item["msg"])}
        for item in items[:MAX_REPORTED_ERRORS]
    ]
    detail = f"{name_of(errors[0])}: {errors[0]['detail']}"
    if len(items) > 1:
        detail += f" (and {len(items) - 1} more)"
    return Problem(InvalidInput.code, InvalidInput.title, STATUS[InvalidInput], detail, errors)


def place_of(loc: Sequence[str | int]) -> dict[str, str]:
    """FastAPI's location of a fault, as a JSON pointer into the body (RFC 6901, as a URI fragment) or a parameter."""
    kind, *steps = loc
    if kind != "body":
        return {"parameter": str(steps[0]) if steps else str(kind)}
    return {"pointer": "#" + "".join("/" + str(s)[:80].replace("~", "~0").replace("/", "~1") for s in steps)}


def name_of(error: Mapping[str, str]) -> str:
    """The place of a fault, for people: `documents.0.id`, `limit`, or `body` for the whole body."""
    return error.get("parameter") or error["pointer"].removeprefix("#").removeprefix("/").replace("/", ".") or "body"


def problem_response(request: Request, problem: Problem) -> Response:
    headers = dict(problem.headers)
    if problem.status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    if path.startswith(OPENAI_ROUTES):
        return json_response(problem.as_openai(), status_code=problem.status, headers=headers)
    return json_response(problem.as_json(), status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)
