"""Writes Markdown. Readers pass the structure of a document to the chunker as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BACKTICKS = re.compile("`{3,}")


def join_blocks(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block.strip())


def one_line(text: str) -> str:
    return " ".join(text.split())


def heading(level: int, text: str) -> str:
    return f"{'#' * min(level, 6)} {one_line(text)}" if text.strip() else ""


def code_block(code: str, language: str = "") -> str:
    """A fenced code block. The fence is longer than any run of backticks in the code."""
    if not code.strip():
        return ""
    fence = "`" * max(3, *(len(run) + 1 for run in [*BACKTICKS.findall(code), ""]))
    return f"{fence}{language}\n{code.strip(chr(10)).rstrip()}\n{fence}"


def list_item(marker: str, body: str) -> str:
    """A list item. Lines after the first are indented, so that they belong to the item."""
    first, *rest = body.splitlines() or [""]
    indent = " " * (len(marker) + 1)
    return "\n".join([f"{marker} {first}", *(indent + line if line else "" for line in rest)])


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table with the first row as its header. Short rows are padded; a single row becomes a paragraph."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if len(cells) < 2:
        return " ".join(cell for row in cells for cell in row)
    width = max(len(row) for row in cells)
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
