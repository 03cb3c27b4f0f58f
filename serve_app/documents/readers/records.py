"""Records (a JSON object, a row of a table) → documents. Field names decide what each value becomes."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import chain, count

from serve_app.documents.encoding import NOT_TEXT, clean
from serve_app.types import Document, JsonScalar, JsonValue
from serve_app.validation import INT64

Record = Mapping[str, object]

# The first field that is present and not empty counts; names are compared in lower case.
ID_NAMES = ("_id", "id")
TEXT_NAMES = ("text", "body", "content")
TITLE_NAMES = ("title",)
SUBJECT_NAMES = ("subject",)  # usually the headline of a ticket or a mail, not a person
URL_NAMES = ("url",)


def document_of(record: Record, default_id: str) -> Document:
    """The document that a record describes: in the API's shape, in BEIR's (`_id`, `title`, `text`), or a table's row.

    All other fields are metadata, together with those of an object under `metadata`. If there is no text field, the
    text has a line `name: value` for each metadata field.
    A `subject` names the person whom the document is about only in the API's shape: the record has a `metadata` object
    and no field that the API does not have. In other records it is a headline: it stays metadata, and it is the title
    if there is no title field.
    """
    fields = json_object(record)
    names = {name.lower(): name for name in reversed(fields)}
    id, text, title, url = (_take(fields, names, some) for some in (ID_NAMES, TEXT_NAMES, TITLE_NAMES, URL_NAMES))
    nested = fields.pop("metadata", None)
    is_of_api = isinstance(nested, dict) and fields.keys() <= {"subject"}
    subject = _take(fields, names, SUBJECT_NAMES) if is_of_api else ""
    title = title or _value(fields, names, SUBJECT_NAMES)
    more = nested if isinstance(nested, dict) else {"metadata": nested}
    metadata = {name: value for name, value in {**fields, **more}.items() if value not in (None, "")}
    lines = (f"{name}: {shown(value)}" for name, value in metadata.items())
    return Document(id or default_id, text or "\n".join(lines), title, url, metadata, subject)


def _take(fields: dict[str, JsonValue], names: Mapping[str, str], candidates: Iterable[str]) -> str:
    """Remove and return, as text, the first candidate that has a value."""
    name = _name(fields, names, candidates)
    return shown(fields.pop(name)) if name else ""


def _value(fields: Mapping[str, JsonValue], names: Mapping[str, str], candidates: Iterable[str]) -> str:
    name = _name(fields, names, candidates)
    return shown(fields[name]) if name else ""


def _name(fields: Mapping[str, JsonValue], names: Mapping[str, str], candidates: Iterable[str]) -> str:
    """The first candidate that has a value, spelt as in `fields`; "" if none has."""
    present = (names[candidate] for candidate in candidates if candidate in names)
    return next((name for name in present if fields[name] not in (None, "")), "")


def shown(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_object(record: Mapping[object, object] | Record) -> dict[str, JsonValue]:
    return dict(zip(distinct(clean(str(name)) for name in record), map(json_value, record.values()), strict=True))


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with a number after each repeated one: `tag`, `tag 2`. Otherwise a table with two columns of the same
    name would lose the first."""
    wanted = list(names)
    if len(set(wanted)) == len(wanted):
        return wanted
    taken: dict[str, None] = {}
    for name in wanted:
        numbered = (f"{name} {number}" for number in count(2))
        taken[next(one for one in chain([name], numbered) if one not in taken)] = None
    return list(taken)


def json_value(value: object) -> JsonValue:
    """The value as JSON, without loss: a number that neither int64 nor float64 represents exactly becomes text. NaN
    and infinities become null, dates ISO 8601, bytes text or base64, and values of other types their `str`."""
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
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _exact(value)
        case bytes():
            return _text_of(value)
    is_instant = isinstance(value, datetime.datetime | datetime.date | datetime.time)
    return value.isoformat() if is_instant else clean(str(value))  # type: ignore[attr-defined]


def _exact(value: Decimal) -> JsonScalar:
    if not value.is_finite():
        return None
    digits = str(value)
    if abs(value) < 2**63 and digits.lstrip("-").isdigit():
        return int(digits)
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else digits


def _text_of(value: bytes) -> str:
    """The bytes as text, or as base64 if they are not UTF-8 or contain control characters, which cleaning would
    remove."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return clean(text) if text and not NOT_TEXT.search(text) else base64.b64encode(value).decode()
