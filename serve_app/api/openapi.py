"""The OpenAPI document, with the errors that each route can return."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from serve_app.api.problems import PROBLEM_JSON, TYPE_PREFIX
from serve_app.api.route import ApiRoute
from serve_app.api.timeouts import timeout_parameter
from serve_app.settings import ApiSettings

Responses = dict[int | str, dict[str, Any]]

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error in the format of RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": [TYPE_PREFIX + "invalid-input"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do"},
        "errors": {
            "type": "array",
            "description": "Each fault of an invalid body or invalid parameters, with its place",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer into the body"},
                    "parameter": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
OPENAI_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

READ = (404, 422, 429, 500, 503, 504)
WRITE = (400, 404, 409, 413, 415, 422, 429, 500, 503, 504)


def problems(*statuses: int) -> Responses:
    return _responses(statuses, PROBLEM_JSON, "Problem")


def openai_errors(*statuses: int) -> Responses:
    return _responses(statuses, "application/json", "OpenAIError")


def _responses(statuses: tuple[int, ...], media_type: str, schema: str) -> Responses:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        add_timeouts(document, app.routes, app.state.services.settings)
        document["components"]["schemas"] |= {"Problem": PROBLEM, "OpenAIError": OPENAI_ERROR}
        app.openapi_schema = document
    return app.openapi_schema


def add_timeouts(document: dict[str, Any], routes: Sequence[BaseRoute], settings: ApiSettings) -> None:
    """Document the timeout header on every route that accepts it."""
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, ApiRoute) and route.traffic is not None:
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                operation.setdefault("parameters", []).append(timeout_parameter(route.longest_s(settings)))
