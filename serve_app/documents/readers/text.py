"""Plain text and Markdown: .txt, .md, .markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from serve_app.documents.encoding import decode
from serve_app.documents.markdown_blocks import BlockKind, parse_blocks
from serve_app.documents.readers.records import json_object, shown
from serve_app.documents.readers.result import ReadResult, read_whole, result_of
from serve_app.types import Document, JsonValue

FRONT_MATTER = re.compile(r"---[ \t]*\n(.{0,65536}?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
EMBEDDED_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/=%_-]{64,}")
TITLE_AMONG_CHARS = 4096  # the title is searched at the top only


def read_text(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document; its title is the file's name."""
    yield result_of(document_id, lambda: Document(document_id, decode(read_whole(path)), path.stem))


def read_markdown(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document. YAML front matter becomes metadata, except `title` and `url`, which become the document's fields.
    If it has no `title`, the title is its `subject`, else the first heading of level 1, else the file's name. Images
    that are embedded in the text as base64 are left out."""
    yield result_of(document_id, lambda: markdown_document(decode(read_whole(path)), document_id, path.stem))


def markdown_document(text: str, document_id: str, default_title: str) -> Document:
    front, body = split_front_matter(text)
    title, url = (shown(front.pop(name, None) or "") for name in ("title", "url"))
    title = title or shown(front.get("subject") or "") or first_heading(body) or default_title
    return Document(document_id, EMBEDDED_DATA.sub("", body), title, url, metadata=front)


def split_front_matter(text: str) -> tuple[dict[str, JsonValue], str]:
    """The metadata and the rest of the text. Front matter that is not a plain YAML mapping stays in the text."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        # Nested aliases can expand to an unbounded size.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(match[1], yaml.SafeLoader)):
            return {}, text
        if _has_key_twice(match[1]):
            return {}, text
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return (json_object(front), text[match.end() :]) if isinstance(front, dict) else ({}, text)


def _has_key_twice(source: str) -> bool:
    """Whether a key occurs twice. YAML forbids this, but PyYAML silently keeps the last value."""
    node = yaml.compose(source, yaml.SafeLoader)
    keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return any(keys.count(key) > 1 for key in keys)


def first_heading(text: str) -> str:
    """The first heading of level 1 near the top; "" if there is none."""
    blocks = parse_blocks(text[:TITLE_AMONG_CHARS])
    return next((one.heading for one in blocks if one.kind is BlockKind.HEADING and one.level == 1), "")
