"""Plain text and Markdown: .txt .md .markdown"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from serve_app.documents.encoding import decode
from serve_app.documents.markdown_blocks import BlockKind, parse_blocks
from serve_app.documents.readers.records import json_object
from serve_app.documents.readers.result import ReadResult, read_whole, result_of
from serve_app.types import Document, JsonValue

FRONT_MATTER = re.compile(r"---[ \t]*\n(.{0,65536}?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
TITLE_AMONG_CHARS = 4096  # a title stands at the top


def read_text(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document; its title is the file's name."""
    yield result_of(document_id, lambda: Document(document_id, decode(read_whole(path)), path.stem))


def read_markdown(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document. YAML front matter becomes metadata (`title`, `url` and `subject` the fields of that name); else
    the title is the first heading of level 1, else the file's name."""
    yield result_of(document_id, lambda: markdown_document(decode(read_whole(path)), document_id, path.stem))


def markdown_document(text: str, document_id: str, default_title: str) -> Document:
    front, body = split_front_matter(text)
    known = {name: str(value) for name in ("title", "url", "subject") if (value := front.pop(name, None))}
    title = known.pop("title", "") or first_heading(body) or default_title
    return Document(document_id, body, title, metadata=front, **known)


def split_front_matter(text: str) -> tuple[dict[str, JsonValue], str]:
    """The metadata and the rest. What is not a plain YAML mapping stays text: nothing is lost."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        # An alias of an alias of … grows without bound when it is written out.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(match[1], yaml.SafeLoader)):
            return {}, text
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return (json_object(front), text[match.end() :]) if isinstance(front, dict) else ({}, text)


def first_heading(text: str) -> str:
    """The first heading of level 1 near the top, or none."""
    blocks = parse_blocks(text[:TITLE_AMONG_CHARS])
    return next((one.heading for one in blocks if one.kind is BlockKind.HEADING and one.level == 1), "")
