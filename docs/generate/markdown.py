"""Markdown as every generated page has it."""

from __future__ import annotations

from collections.abc import Sequence

NOTICE = "<!-- written by `make docs` from the code: edit the code, not this page -->"


def page(title: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"# {title}", NOTICE, *filter(None, parts)]) + "\n"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_one_line(text: str | None) -> str:
    return " ".join((text or "").split())
