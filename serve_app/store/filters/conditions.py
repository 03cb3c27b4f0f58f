"""Conditions on one field: `match`, `range`, `values_count`. Each `read_` function validates its input and returns the
canonical form, or raises InvalidInput. `at`: the place in the request, for the error message."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NoReturn, TypeGuard

from serve_app.errors import InvalidInput
from serve_app.types import JsonValue
from serve_app.validation import INT64

Object = dict[str, JsonValue]

MATCHES = ("value", "any", "except", "text")
BOUNDS = ("gt", "gte", "lt", "lte")
MAX_COUNT = 2**32


def fail(at: str, problem: str) -> NoReturn:
    raise InvalidInput(f"{at or 'filter'}: {problem}")


def show(value: object) -> str:
    """A short form of any value for an error message."""
    if isinstance(value, (dict, list)):
        return ("an object" if isinstance(value, dict) else "a list") if value else repr(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def inside(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def read_object(raw: object, at: str, allowed: tuple[str, ...]) -> Object:
    """The fields that are present; as in Qdrant, `null` means absent."""
    if not isinstance(raw, dict):
        fail(at, f"must be an object with {', '.join(allowed)}, not {show(raw)}")
    present = {name: value for name, value in raw.items() if value is not None}
    for name in present:
        if name not in allowed:
            fail(at, f"unknown field {show(name)}; allowed: {', '.join(allowed)}")
    return present


def read_match(raw: object, at: str) -> Object:
    fields = read_object(raw, at, MATCHES)
    if len(fields) != 1:
        fail(at, f"has exactly one of {', '.join(MATCHES)}")
    [(name, value)] = fields.items()
    at = inside(at, name)
    if name == "value":
        return {name: value if isinstance(value, bool) else read_keyword(value, at)}
    if name == "text":
        return {name: read_words(value, at)}
    if not isinstance(value, list) or not value:
        fail(at, f"must be a list with at least one value, not {show(value)}")
    values = {read_keyword(item, f"{at}[{i}]") for i, item in enumerate(value)}
    if len({type(item) for item in values}) > 1:
        fail(at, "must be all strings or all integers; use one condition for each in should")
    return {name: [*sorted(values, key=lambda item: (isinstance(item, str), item))]}


def read_keyword(value: object, at: str) -> str | int:
    if isinstance(value, float):
        fail(at, f"must be a string or an integer, not {show(value)}; use range for numbers with a fraction")
    if is_integer(value):
        if value not in INT64:
            fail(at, f"must be an integer of 64 bits, not {show(value)}")
        return value
    if not isinstance(value, str):
        fail(at, f"must be a string or an integer, not {show(value)}")
    return read_text(value, at)


def read_words(value: object, at: str) -> str:
    if not isinstance(value, str) or not any(character.isalnum() for character in value):
        fail(at, f"must be a string with a letter or a digit, not {show(value)}")
    return read_text(value, at)


def read_text(value: str, at: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        fail(at, "has half of a surrogate pair, which is not text")
    return value


def read_range(raw: object, at: str) -> Object:
    """Numbers become floats, dates become `2024-05-01T00:00:00.000000Z`."""
    fields = read_object(raw, at, BOUNDS)
    if not fields:
        fail(at, f"has at least one of {', '.join(BOUNDS)}")
    bounds: Object = {}
    for name in BOUNDS:
        if name in fields:
            value = fields[name]
            place = inside(at, name)
            bounds[name] = read_instant(value, place) if isinstance(value, str) else read_number(value, place)
    if len({type(bound) for bound in bounds.values()}) > 1:
        fail(at, "must be all numbers or all dates")
    return bounds


def read_number(value: object, at: str) -> float:
    if isinstance(value, float) or is_integer(value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number + 0.0  # -0.0 becomes 0.0
    fail(at, f"must be a finite number or an RFC 3339 date, not {show(value)}")


def read_instant(value: str, at: str) -> str:
    """As in Qdrant, a date without a zone is UTC, and one without a time is the begin of the day."""
    try:
        instant = datetime.fromisoformat(value.upper())
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        fail(at, f"must be an RFC 3339 date like 2024-05-01 or 2024-05-01T12:00:00Z, or a number, not {show(value)}")
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def read_values_count(raw: object, at: str) -> Object:
    fields = read_object(raw, at, BOUNDS)
    if not fields:
        fail(at, f"has at least one of {', '.join(BOUNDS)}")
    for name, value in fields.items():
        if not is_integer(value) or not 0 <= value < MAX_COUNT:
            fail(inside(at, name), f"must be an integer from 0, not {show(value)}")
    return {name: fields[name] for name in BOUNDS if name in fields}


def is_integer(value: object) -> TypeGuard[int]:
    """Whether the value is a JSON integer. In Python a bool is an int, too."""
    return isinstance(value, int) and not isinstance(value, bool)
