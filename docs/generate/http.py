"""docs/reference/http.md: every route of the OpenAPI document, and the objects that they take and give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from docs.generate.markdown import in_one_line, page, table
from serve_app.api.app import build_app
from serve_app.api.services import Services
from serve_app.settings import ApiSettings


def http_page() -> str:
    services = cast(Services, SimpleNamespace(settings=ApiSettings()))  # no route is called: limits are all it needs
    document = build_app(services).openapi()
    schemas: dict[str, Any] = document["components"]["schemas"]
    routes = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        document["info"]["description"],
        "A running service shows the same as `/docs` (with a form to try each route) and as `/openapi.json`.",
        table(("route", "purpose"), [(f"[`{m} {p}`](#{anchor(m, p)})", purpose(o)) for m, p, o in routes]),
        *(part for method, path, operation in routes for part in route_parts(method, path, operation)),
        "## Objects",
    ]
    for name in sorted(used(schemas, [operation for *_, operation in routes])):
        parts += [f"### {name}", *object_parts(schemas[name])]
    return page("HTTP API", parts)


def anchor(method: str, path: str) -> str:
    kept = (c for c in f"{method} {path}".lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def purpose(operation: dict[str, Any]) -> str:
    return in_one_line(operation["description"].split("\n\n", maxsplit=1)[0])


def route_parts(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {method} {path}"
    yield operation["description"]
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"`{each['name']}`",
                each["in"],
                schema_type(each["schema"]) + ("" if each.get("required") else ", optional"),
                each.get("description", ""),
            )
            for each in parameters
        ]
        yield table(("parameter", "in", "type", "meaning"), rows)
    if body := operation.get("requestBody"):
        yield f"Body: {schema_type(body['content']['application/json']['schema'])}"
    answers = operation["responses"]
    yield f"Answer (200): {schema_type(answers['200']['content']['application/json']['schema'])}"
    errors = ", ".join(f"{status} {answer['description']}" for status, answer in answers.items() if status != "200")
    shape = next(iter(next(a for s, a in answers.items() if s != "200")["content"].values()))
    yield f"Errors ({schema_type(shape['schema'])}): {errors}"


def object_parts(schema: dict[str, Any]) -> Iterator[str]:
    if text := schema.get("description"):
        yield text
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            schema_type(each) + ("" if name in required else default_of(each)),
            each.get("description", ""),
        )
        for name, each in schema["properties"].items()
    ]
    yield table(("field", "type", "meaning"), rows)
    for example in schema.get("examples", [])[:1]:
        yield f"Example:\n\n```json\n{json.dumps(example, indent=2)}\n```"


def default_of(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return ", optional" if value is None else f", default `{json.dumps(value)}`"


def schema_type(schema: dict[str, Any]) -> str:
    """A JSON schema in words, with a link where it is an object of the API."""
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf"):
        return " or ".join(schema_type(each) for each in options)
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " · ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {schema_type(schema['items'])}"
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), dict) and more:
        return f"object of {schema_type(more)}"
    bounds = [f"{sign} {schema[name]:,g}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in schema]
    names = {"string": "text", "null": "null"}
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    return " ".join([names.get(kind, kind), ", ".join(bounds)]).strip()


def used(schemas: dict[str, Any], start: Any) -> set[str]:
    """Names of the objects that are reached from here."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        match waiting.pop():
            case dict() as node:
                if (name := str(node.get("$ref", "")).rsplit("/", 1)[-1]) and name not in found:
                    found.add(name)
                    waiting.append(schemas[name])
                waiting.extend(node.values())
            case list() as nodes:
                waiting.extend(nodes)
    return found
