"""How structure is written down between a reader and the chunker: as Markdown, from which `chunk` reads it back."""

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
    """Fenced by more backticks than the code has in a row."""
    if not code.strip():
        return ""
    fence = "`" * max(3, *(len(run) + 1 for run in [*BACKTICKS.findall(code), ""]))
    return f"{fence}{language}\n{code.strip(chr(10)).rstrip()}\n{fence}"


def list_item(marker: str, body: str) -> str:
    """Following lines are indented, so that they stay in the item."""
    first, *rest = body.splitlines() or [""]
    indent = " " * (len(marker) + 1)
    return "\n".join([f"{marker} {first}", *(indent + line if line else "" for line in rest)])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first the header; shorter rows are filled up. A single row is a paragraph."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if len(cells) < 2:
        return " ".join(cell for row in cells for cell in row)
    width = max(len(row) for row in cells)
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
