"""docs/reference/settings.md: every variable, its type, bounds, default and meaning."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.generate.markdown import in_one_line, page, table
from serve_app.settings import PREFIX, SearchProfile, Settings
from serve_app.settings.environment import is_section

PROFILE = "SEARCH__PROFILES__<NAME>__"
HEAD = ("variable", "type", "default", "meaning")
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings_page() -> str:
    parts = [
        "Every setting is an environment variable, `AIDOCS_<SECTION>__<FIELD>`. The service refuses to start if a name "
        "that begins with `AIDOCS_` is unknown, and suggests the nearest one. A section's own variable takes a JSON "
        'object: `AIDOCS_STORE=\'{"url": "http://qdrant:6333"}\'`.',
        "Names end with their unit: `_s` seconds, `_ms` milliseconds, `_bytes`, `_tokens`, `_chars` characters.",
        "## General",
        table(HEAD, setting_rows(Settings, PREFIX)),
    ]
    for path, section in sections(Settings, ""):
        rows = setting_rows(section, f"{PREFIX}{path.upper()}__")
        parts += [f"## {path.replace('__', ' ')}", in_one_line(section.__doc__), table(HEAD, rows)]
        if path == "search":
            parts += ["## search profiles", in_one_line(SearchProfile.__doc__)]
            parts += [table(HEAD, setting_rows(SearchProfile, PREFIX + PROFILE))]
    return page("Settings", parts)


def sections(model: type[BaseModel], above: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if is_section(field):
            section = cast(type[BaseModel], field.annotation)
            yield above + name, section
            yield from sections(section, f"{above}{name}__")


def setting_rows(model: type[BaseModel], prefix: str) -> list[tuple[str, ...]]:
    described = descriptions(model)
    return [
        (f"`{prefix}{name.upper()}`", type_of(field), default_of(name, field), described.get(name, ""))
        for name, field in model.model_fields.items()
        if not is_section(field)
    ]


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field, from the source: nothing of it is loaded by a service."""
    found: dict[str, str] = {}
    for cls in reversed(
        [c for c in model.__mro__ if issubclass(c, BaseModel) and c.__module__.startswith("serve_app")]
    ):
        [node] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                    found[name] = in_one_line(text)
    return found


def type_of(field: FieldInfo) -> str:
    annotation = field.annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):  # a Literal
        return " · ".join(f"`{kind}`" for kind in kinds)
    if isinstance(kinds[0], type) and issubclass(kinds[0], str) and (values := getattr(kinds[0], "__members__", None)):
        return " · ".join(f"`{value}`" for value in values.values())
    if annotation is not None and getattr(annotation, "__origin__", None) in (dict, tuple):
        return "JSON object" if annotation.__origin__ is dict else "JSON list"
    names = {SecretStr: "secret", Path: "path", str: "text", int: "integer", float: "number", bool: "true or false"}
    base, extra = kinds[0], list(field.metadata)
    if hasattr(base, "__metadata__"):  # Annotated, below a union with None
        base, extra = base.__origin__, [*base.__metadata__, *extra]
    bounds = [
        f"{sign} {value:,}"
        for constraint in extra
        for name, sign in BOUNDS.items()
        if (value := getattr(constraint, name, None)) is not None
    ]
    return " ".join([names.get(base, getattr(base, "__name__", str(base))), ", ".join(bounds)]).strip()


def default_of(name: str, field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}` ({in_binary_units(int(value))})" if name.endswith("_bytes") else f"`{value}`"
    if isinstance(value, tuple | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def in_binary_units(value: int) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value % size == 0 and value >= size:
            return f"{value // size} {unit}"
    return f"{value:,}"
