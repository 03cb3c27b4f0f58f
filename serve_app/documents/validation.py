"""What a document must be before anything is done with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from serve_app.errors import InvalidInput
from serve_app.types import Document

MAX_ID_CHARS = 512
MAX_METADATA_DEPTH = 16
INT64 = range(-(2**63), 2**63)

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no store takes NUL, no encoder half of a UTF-16 pair
NOT_IN_ID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def validate(document: Document) -> None:
    """Raises InvalidInput with what to change: an id, metadata or a document that cannot be stored and found."""
    if fault := id_fault(document.id):
        raise InvalidInput(fault)
    if not (document.text.strip() or document.title.strip()):
        raise InvalidInput("the document is empty: give it a text or a title")
    _require_json(document.metadata, "metadata", 0)


def id_fault(id: str) -> str:
    """What to change of a document's id; empty if nothing."""
    if not id.strip():
        return "id is empty: give the document an id that is unique in its collection"
    if len(id) > MAX_ID_CHARS:
        return f"id has {len(id)} characters; at most {MAX_ID_CHARS} are allowed"
    return "id has a control character or half of a surrogate pair: take it out" if NOT_IN_ID.search(id) else ""


def _require_json(value: object, where: str, depth: int) -> None:
    if depth > MAX_METADATA_DEPTH:
        raise InvalidInput(f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels: flatten it")
    match value:
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str) or UNSTORABLE.search(key):
                    raise InvalidInput(f"{where} has a key that is not plain text: {key!r:.80}")
                _require_json(item, f"{where}.{key:.80}", depth + 1)
        case list() | tuple():
            for number, item in enumerate(value):
                _require_json(item, f"{where}[{number}]", depth + 1)
        case _ if wrong := _wrong_scalar(value):
            raise InvalidInput(f"{where} {wrong}")


def _wrong_scalar(value: object) -> str:
    match value:
        case str() if UNSTORABLE.search(value):
            return "has a NUL or half of a surrogate pair: take it out"
        case int() if value not in INT64:
            return "does not fit 64 bits: send it as a string"
        case float() if not math.isfinite(value):
            return f"is {value}, which JSON does not have: send null or a string"
        case None | str() | int() | float():  # bool is an int
            return ""
        case _:
            return f"is a {type(value).__name__}, which is not JSON: send text or a number"


def storable(document: Document) -> Document:
    """The same document with text that any store takes: NUL is dropped, a lone surrogate becomes U+FFFD."""
    if not any(map(UNSTORABLE.search, (document.text, document.title, document.url, document.subject))):
        return document
    return replace(
        document,
        text=mend(document.text),
        title=mend(document.title),
        url=mend(document.url),
        subject=mend(document.subject),
    )


def mend(text: str) -> str:
    return UNSTORABLE.sub(lambda match: "" if match[0] == "\x00" else "\N{REPLACEMENT CHARACTER}", text)
