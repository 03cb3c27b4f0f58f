"""Request bodies: reads the bytes and parses them as JSON, within limits.

Parsing follows RFC 8259 strictly: UTF-8, no NaN or Infinity, no lone surrogates. If a name occurs twice in an object,
its last value counts. More than 200 levels of nesting are refused.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from serve_app.errors import InvalidInput, MalformedJson, PayloadTooLarge, UnsupportedMediaType
from serve_app.settings import ApiSettings


class JsonRequest(Request):
    """A request whose body `load` reads and parses. `body` and `json` then return it to FastAPI."""

    _bytes = b""
    _value: Any = None

    async def load(self, limits: ApiSettings) -> Any:
        """Read the body and return its JSON value; None if it is empty.
        Raises PayloadTooLarge, UnsupportedMediaType, MalformedJson, InvalidInput, and ClientDisconnect."""
        self._bytes = await read_body(self, limits.max_body_bytes)
        if self._bytes:
            require_json_type(self.headers.get("content-type", ""))
            self._value = parsed(self._bytes, limits)
        return self._value

    async def body(self) -> bytes:
        return self._bytes

    async def json(self) -> Any:
        return self._value


def parsed(body: bytes, limits: ApiSettings) -> Any:
    """The JSON value. Raises MalformedJson, InvalidInput."""
    require_few_values(body, limits.max_body_values)
    value = parse_json(body)
    require_counts(value, limits)
    return value


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises PayloadTooLarge if it is longer than `max_bytes`, as soon as its Content-Length or the
    chunks received so far exceed that, and ClientDisconnect."""
    declared_bytes = content_length(request)
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    size_bytes = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def content_length(request: Request) -> int | None:
    """Bytes of the body as the client declares them; None if the header is missing or not a number."""
    declared = request.headers.get("content-length", "")
    return int(declared[:20]) if declared.isascii() and declared.isdigit() else None


def too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {max_bytes} bytes; send less at once")


def require_json_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"the body's Content-Type is {media_type[:80]!r}; send JSON with Content-Type: application/json"
        )


def require_few_values(body: bytes, most: int) -> None:
    """Refuse a body with too many values before it is parsed. 16 MB can hold millions of values, and parsing them
    blocks the event loop in any thread. An empty list or object may count twice. Raises InvalidInput."""
    if len(body) <= most or separators(body) < most:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # each quote left begins or ends a string
    quotes = unescaped.count(b'"')  # a value has at most four: its own two and those of its name
    if quotes > 4 * most or separators(b"".join(unescaped.split(b'"')[::2])) >= most:
        raise InvalidInput(
            f"the body has too many JSON values: at most {most} are allowed, counting nested ones; send less at once"
        )


def separators(json: bytes) -> int:
    """The number of commas and opening brackets. Every value except the outermost follows one of its own. json: without
    strings."""
    return json.count(b",") + json.count(b"[") + json.count(b"{")


def parse_json(body: bytes) -> Any:
    """The JSON value. Raises MalformedJson with the position of the error."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedJson(f"the body is not JSON: {error}") from None


def require_counts(value: Any, limits: ApiSettings) -> None:
    """Refuse lists with too many items before the items are validated. Raises InvalidInput."""
    counted = {"documents": limits.max_documents, "queries": limits.max_queries, "input": limits.max_texts}
    for name, most in counted.items() if isinstance(value, dict) else ():
        if isinstance(items := value.get(name), list) and len(items) > most:
            raise InvalidInput(f"{name} has {len(items)} items; at most {most} are allowed in one call")
