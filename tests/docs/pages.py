"""The pages of the documentation, and what is in them: code blocks, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "examples" not in page.parts]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """language: what stands behind the three backticks."""

    language: str
    text: str


@dataclass(frozen=True)
class Example:
    """A shell block, and the block behind it if that shows its output."""

    commands: str
    output: Block | None


def blocks(page: Path) -> list[Block]:
    return [Block(language, text) for language, text in BLOCK.findall(page.read_text())]


def examples(page: Path) -> list[Example]:
    found = blocks(page)
    behind = [*found[1:], None]
    return [
        Example(block.text, after if after is not None and after.language in ("json", "text") else None)
        for block, after in zip(found, behind, strict=True)
        if block.language == "bash"
    ]


def links(page: Path) -> Iterator[str]:
    """Those to pages and files of the repository."""
    for target in LINK.findall(BLOCK.sub("", page.read_text())):
        if not target.startswith(("http://", "https://")):
            yield target


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    return {anchor(heading) for heading in HEADING.findall(BLOCK.sub("", page.read_text()))}


def anchor(heading: str) -> str:
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")
