"""Errors as HTTP responses, independent of the routes that raise them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi import Request

from serve_app import errors
from serve_app.api.problems import (
    STATUS,
    Problem,
    internal_error,
    place_of,
    problem_response,
    status_of,
    to_problem,
)


def subclasses(cls: type[errors.PlatformError]) -> Iterator[type[errors.PlatformError]]:
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


EXPECTED = {
    errors.PlatformError: 500,
    errors.ConfigurationError: 500,
    errors.InvalidInput: 422,
    errors.UnreadableDocument: 422,
    errors.PayloadTooLarge: 413,
    errors.MalformedJson: 400,
    errors.UnsupportedMediaType: 415,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.ActiveIndexChanged: 409,
    errors.Overloaded: 429,
    errors.DeadlineExceeded: 504,
    errors.VerificationFailed: 500,
    errors.Unavailable: 503,
    errors.StoreUnavailable: 503,
    errors.StoreLocked: 503,
    errors.StoreBroken: 503,
    errors.StoreFull: 503,
    errors.StateUnavailable: 503,
    errors.EngineUnavailable: 503,
}


def request(path: str) -> Request:
    return Request({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""})


@pytest.mark.parametrize("error", EXPECTED)
def test_status_of_each_error(error: type[errors.PlatformError]) -> None:
    assert status_of(error("x")) == EXPECTED[error]


def test_no_error_is_forgotten() -> None:
    assert {errors.PlatformError, *subclasses(errors.PlatformError)} == set(EXPECTED)
    assert set(STATUS) <= set(EXPECTED)


@pytest.mark.parametrize("error", [errors.Overloaded, errors.StoreLocked, errors.EngineUnavailable])
@pytest.mark.parametrize("path", ["/v1/collections", "/v1/embeddings"])
def test_try_again_says_when(error: type[errors.PlatformError], path: str) -> None:
    response = problem_response(request(path), to_problem(error("busy")))
    assert int(response.headers["retry-after"]) >= 1


def test_problem_members() -> None:
    response = problem_response(request("/v1/collections/c"), to_problem(errors.NotFound("there is no collection 'c'")))
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body) == {
        "type": "urn:ai-docs:error:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "there is no collection 'c'",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidInput, "invalid_request_error"),
        (errors.NotFound, "invalid_request_error"),
        (errors.Overloaded, "rate_limit_error"),
        (errors.EngineUnavailable, "server_error"),
        (errors.DeadlineExceeded, "server_error"),
    ],
)
def test_openai_envelope(error: type[errors.PlatformError], kind: str) -> None:
    response = problem_response(request("/v1/embeddings"), to_problem(error("because")))
    assert response.status_code == EXPECTED[error]
    assert response.headers["content-type"] == "application/json"
    expected = {"message": "because", "type": kind, "param": None, "code": error.code}
    assert json.loads(response.body) == {"error": expected}


def test_our_faults_stay_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for problem in (internal_error(KeyError("secret")), to_problem(errors.ConfigurationError("secret"))):
        assert problem.status == 500
        assert "secret" not in problem.detail
    assert caplog.text.count("secret") == 2


def test_pointers_are_escaped() -> None:
    assert place_of(("body", "documents", 0, "a/b~c")) == {"pointer": "#/documents/0/a~1b~0c"}
    assert place_of(("body",)) == {"pointer": "#"}
    assert place_of(("query", "limit")) == {"parameter": "limit"}


def test_param_is_a_dotted_name() -> None:
    problem = Problem("invalid-input", "t", 422, "d", [{"pointer": "#/input/3", "detail": "x"}])
    assert problem.as_openai()["error"]["param"] == "input.3"
