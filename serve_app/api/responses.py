"""JSON responses, serialised directly by orjson. FastAPI's encoder would visit every float of every vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response


def json_response(
    content: Any,
    *,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """content: dicts, lists, dataclasses, numpy arrays and scalars, any Mapping."""
    body = orjson.dumps(content, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status_code=status_code, headers=headers and dict(headers), media_type=media_type)


def json_bytes_response(body: bytes) -> Response:
    """body: serialised JSON."""
    return Response(body, media_type="application/json")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
