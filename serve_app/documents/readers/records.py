"""Records (a JSON object, a row of a table) → documents, by the names of their fields."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from serve_app.documents.encoding import clean
from serve_app.documents.validation import INT64
from serve_app.types import Document, JsonScalar, JsonValue

Record = Mapping[str, object]

# The first that is there and not empty counts; names are compared in lower case.
ID_NAMES = ("_id", "id")
TEXT_NAMES = ("text", "body", "content")
TITLE_NAMES = ("title",)
URL_NAMES = ("url",)
SUBJECT_NAMES = ("subject",)


def document_of(record: Record, default_id: str) -> Document:
    """The document that a record describes: our API's shape, BEIR's (`_id`, `title`, `text`) or any table's row.

    Other fields are metadata; an object under `metadata` is taken for more of them. Without a text field the text is
    a line `name: value` for each field.
    """
    fields = json_object(record)
    names = {name.lower(): name for name in reversed(fields)}
    id, text, title, url = (_take(fields, names, some) for some in (ID_NAMES, TEXT_NAMES, TITLE_NAMES, URL_NAMES))
    subject = _take(fields, names, SUBJECT_NAMES)
    nested = fields.pop("metadata", None)
    more = nested if isinstance(nested, dict) else {"metadata": nested}
    metadata = {name: value for name, value in {**fields, **more}.items() if value not in (None, "")}
    lines = (f"{name}: {shown(value)}" for name, value in metadata.items())
    return Document(id or default_id, text or "\n".join(lines), title, url, metadata, subject)


def _take(fields: dict[str, JsonValue], names: Mapping[str, str], candidates: Iterable[str]) -> str:
    """Remove and return, as text, the first candidate that has a value."""
    for candidate in candidates:
        name = names.get(candidate)
        if name is not None and fields[name] not in (None, ""):
            return shown(fields.pop(name))
    return ""


def shown(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_object(record: Mapping[object, object] | Record) -> dict[str, JsonValue]:
    return {clean(str(name)): json_value(value) for name, value in record.items()}


def json_value(value: object) -> JsonValue:
    """As JSON: NaN and infinities are null, dates ISO 8601, bytes text or base64, what is unknown its `str`."""
    match value:
        case Mapping():
            return json_object(value)
        case list() | tuple() | set() | frozenset():
            return [json_value(item) for item in value]
        case _:
            return _json_scalar(value)


def _json_scalar(value: object) -> JsonScalar:
    match value:
        case None | bool():
            return value
        case int() if value in INT64:
            return value
        case float() | Decimal():
            return float(value) if math.isfinite(value) else None
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            return _text_of(value)
        case _:
            return clean(str(value))


def _text_of(value: bytes) -> str:
    try:
        return clean(value.decode())
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
