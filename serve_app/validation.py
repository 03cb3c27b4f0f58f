"""The rules for a valid document. The API, the jobs, imports and both stores use the same rules and limits. Pure: a
function whose name ends in `_fault` returns what to change, or "" if nothing is wrong.

A store accepts more ids than users may give (see `id_fault`), so it only checks `metadata_fault` and `text_fault`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from serve_app.errors import InvalidInput
from serve_app.types import Document, JsonObject

MAX_ID_CHARS = 512
MAX_TITLE_CHARS = 4_096
MAX_URL_CHARS = 8_192
MAX_SUBJECT_CHARS = 512
MAX_METADATA_DEPTH = 16  # nested objects and lists, metadata itself included; Edge cannot read back a depth of 128
INT64 = range(-(2**63), 2**63)  # integers in metadata and in filters

ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"  # for JSON Schema; leaves out surrogates, which JSON cannot hold
NOT_IN_ID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
DOT_SEGMENT = re.compile(r"(?:^|[/\\])(?:\.|%2[eE]){1,2}(?:[/\\]|$)")  # RFC 3986, 5.2.4; browsers read "\" as "/"
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, which some stores and clients refuse, and lone surrogates
SURROGATE = re.compile("[\ud800-\udfff]")


def validate(document: Document) -> None:
    """Raises InvalidInput, which says what to change."""
    if fault := document_fault(document):
        raise InvalidInput(fault)


def document_fault(document: Document) -> str:
    if fault := id_fault(document.id):
        return fault
    if not (document.text.strip() or document.title.strip()):
        return "the document is empty: give it a text or a title"
    for name, most in (("title", MAX_TITLE_CHARS), ("url", MAX_URL_CHARS), ("subject", MAX_SUBJECT_CHARS)):
        if (chars := len(getattr(document, name))) > most:
            return f"{name} has {chars} characters; at most {most} are allowed"
    return metadata_fault(document.metadata)


def id_fault(id: str) -> str:
    if not id.strip():
        return "id is empty: give the document an id that is unique in its collection"
    if len(id) > MAX_ID_CHARS:
        return f"id has {len(id)} characters; at most {MAX_ID_CHARS} are allowed"
    if DOT_SEGMENT.search(id):
        return "id has a path segment '.' or '..', which HTTP clients resolve before they send it: leave it out"
    return "id has a control character or half of a surrogate pair: remove it" if NOT_IN_ID.search(id) else ""


def text_fault(document: Document) -> str:
    """The fault of a text that cannot be encoded as UTF-8, which no store accepts. `storable` repairs such texts."""
    for name in ("id", "text", "title", "url", "subject"):
        if SURROGATE.search(getattr(document, name)):
            return f"{name} has half of a surrogate pair: remove it"
    return ""


def metadata_fault(metadata: JsonObject) -> str:
    return next(_json_faults(dict(metadata), "metadata", MAX_METADATA_DEPTH), "")


def _json_faults(value: object, where: str, levels: int) -> Iterator[str]:
    """levels: depth of nested objects and lists that is allowed from here on."""
    match value:
        case dict() | list() | tuple() if levels == 0:
            yield f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels: flatten it"
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or UNSTORABLE.search(key):
                    yield f"{where} has a key that is not plain text: {key!r:.80}"
                yield from _json_faults(item, f"{where}.{key:.80}", levels - 1)
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _json_faults(item, f"{where}[{number}]", levels - 1)
        case _ if fault := _scalar_fault(value):
            yield f"{where} {fault}"


def _scalar_fault(value: object) -> str:
    match value:
        case str() if UNSTORABLE.search(value):
            return "has a NUL or half of a surrogate pair: remove it"
        case int() if value not in INT64:
            return "does not fit 64 bits: send it as a string"
        case float() if not math.isfinite(value):
            return f"is {value}, which JSON does not have: send null or a string"
        case None | str() | int() | float():  # bool is an int
            return ""
        case _:
            return f"is a {type(value).__name__}, which is not JSON: send text or a number"


def storable(document: Document) -> Document:
    """The same document with texts that every store accepts: NUL is removed, a lone surrogate becomes U+FFFD."""
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
