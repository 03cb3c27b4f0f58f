"""Turns field names, as users write them in filters, `group_by` and `facets`, into paths of the stored payload."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serve_app.errors import InvalidInput

# Fields that users reach by their own names. Every other name is a field of the document's metadata, so users cannot
# reach `kind` and `fingerprint`, which belong to the store.
OWN_FIELDS = frozenset({"document_id", "title", "url", "subject", "text", "number", "headings"})
METADATA = "metadata"

MAX_PATH_CHARS = 512
MAX_INDEX = 2**63 - 1
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
QUOTED_KEY = re.compile(r'"([^"]*)"')
BRACKETS = re.compile(r"\[([0-9]*)\]")

GRAMMAR = "names joined by dots, each with [] or [0] for lists, in double quotes if other than letters, digits, _ and -"


def field_path(name: str) -> str:
    """The payload path of a field: `title` → `title`, `year` and `metadata.year` → `metadata.year`.

    The path is canonical (without needless quotes), and field_path(field_path(x)) == field_path(x).
    Raises InvalidInput if the name is not a path in Qdrant's syntax: `a.b`, `a[].b`, `a[0]`, `a."with space"`.
    """
    steps = list(_steps(name))
    own = steps[0] in OWN_FIELDS or (steps[0] == METADATA and len(steps) > 1 and not steps[1].startswith("["))
    return _join(steps if own else [METADATA, *steps])


def element_path(name: str) -> str:
    """The canonical form of a path within a list's element, as in the keys of a `nested` condition."""
    return _join(list(_steps(name)))


def _join(steps: list[str]) -> str:
    return steps[0] + "".join(step if step.startswith("[") else f".{step}" for step in steps[1:])


def _steps(name: str) -> Iterator[str]:
    """The steps of a path in canonical form: `a."b"[0]` → `a`, `b`, `[0]`. Never empty."""
    if len(name) > MAX_PATH_CHARS:
        raise InvalidInput(f"{name[:40]!r}…: a field's name has at most {MAX_PATH_CHARS} characters")
    at = 0
    while True:
        key, at = _key(name, at)
        yield key if PLAIN_KEY.fullmatch(key) else f'"{key}"'
        while bracket := BRACKETS.match(name, at):
            if bracket[1] and int(bracket[1]) > MAX_INDEX:
                raise InvalidInput(f"{name!r}: the index {bracket[1]} is too large")
            yield f"[{int(bracket[1])}]" if bracket[1] else "[]"
            at = bracket.end()
        if at == len(name):
            return
        if name[at] != ".":
            raise _malformed(name, at)
        at += 1


def _key(name: str, at: int) -> tuple[str, int]:
    """The key that begins at `at`, and where it ends. Letters and digits may be of any script."""
    if quoted := QUOTED_KEY.match(name, at):
        if not quoted[1] or not _is_encodable(quoted[1]):
            raise _malformed(name, at)
        return quoted[1], quoted.end()
    end = at
    while end < len(name) and (name[end].isalnum() or name[end] in "_-"):
        end += 1
    if end == at:
        raise _malformed(name, at)
    return name[at:end], end


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _malformed(name: str, at: int) -> InvalidInput:
    where = f"at character {at + 1}" if at < len(name) else "at its end"
    return InvalidInput(f"{name!r} is not a field's name ({where}); write {GRAMMAR}")
