"""Markdown text → its top-level blocks, as ranges of the source. Nothing is rendered and nothing is dropped: the
ranges cover every character that is not white space. Plain prose therefore survives even if it resembles markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_HEADING_CHARS = 200  # a longer "heading" is prose above a line of dashes

WINDOW_CHARS = 131_072

NEWLINE = re.compile(r"\r\n?|\n")  # the line ends of markdown-it
BLANK_LINE = re.compile(r"(?:\r\n?|\n)[ \t]*(?=\r|\n|\Z)")
FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")
# Without "reference" link definitions are parsed as paragraphs; with it they would produce no token and be lost.
BLOCK_PARSER = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join", "reference"])
INLINE_PARSER = MarkdownIt("commonmark")


class BlockKind(StrEnum):
    HEADING = "heading"
    PROSE = "prose"
    LIST = "list"
    CODE = "code"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Block:
    """text[start:end] of the source, whole lines. cuts: in a list, the starts of its items except the first.
    header_end: in a table, the end of its header and delimiter rows. level and heading: a heading's level, 1–6, and
    its plain text."""

    kind: BlockKind
    start: int
    end: int
    cuts: tuple[int, ...] = ()
    header_end: int = 0
    level: int = 0
    heading: str = ""


def parse_blocks(text: str, window_chars: int = WINDOW_CHARS) -> list[Block]:
    """Blocks in order, without overlap. Raises nothing: any text is Markdown.

    window_chars: characters parsed at once. This bounds the memory of the parser's tokens, which take up to 460 bytes
    for a character (in a list of tiny items). The last block of a window is parsed again in the next window. A block
    as large as a window is cut at its end, unless it is a table or fenced code.
    """
    blocks: list[Block] = []
    start = 0
    while start < len(text):
        line_end = NEWLINE.search(text, start + window_chars)
        end = line_end.end() if line_end else len(text)
        parsed = list(_parsed_blocks(text, start, end))
        start = end
        if end < len(text) and len(parsed) > 1:
            start = parsed.pop().start
        elif end < len(text) and parsed:
            parsed = [replace(parsed[0], end=_true_end(text, parsed[0]))]
            start = parsed[0].end
        for block in parsed:
            blocks.extend(_gap(text, blocks[-1].end if blocks else 0, block.start))
            blocks.append(block)
    blocks.extend(_gap(text, blocks[-1].end if blocks else 0, len(text)))
    return blocks


def _true_end(text: str, block: Block) -> int:
    """The end of a block that begins in one window and may continue after it."""
    match block.kind:
        case BlockKind.CODE if fence := FENCE.match(text, block.start):
            closing = re.compile(rf"^ {{0,3}}{fence[1][0]}{{{len(fence[1])},}}[ \t]*(?:\r\n?|\n|\Z)", re.MULTILINE)
            end = closing.search(text, fence.end())
        case BlockKind.TABLE:
            end = BLANK_LINE.search(text, block.end)
        case _:
            return block.end
    return end.end() if end else len(text)


def _gap(text: str, start: int, end: int) -> Iterator[Block]:
    """A block for text that the parser left out, unless it is blank."""
    if text[start:end].strip():
        yield Block(BlockKind.PROSE, start, end)


def _parsed_blocks(text: str, start: int, end: int) -> Iterator[Block]:
    lines = [start, *(match.end() for match in NEWLINE.finditer(text, start, end)), end]
    tokens = BLOCK_PARSER.parse(text[start:end])
    first = 0
    for last, depth in enumerate(accumulate(token.nesting for token in tokens)):
        if depth == 0:
            opening = tokens[first]
            if opening.map is not None:
                yield _block(opening, tokens[first + 1 : last], lines)
            first = last + 1


def _block(opening: Token, inside: Sequence[Token], lines: Sequence[int]) -> Block:
    first, last = opening.map or (0, 0)
    start, end = lines[first], lines[min(last, len(lines) - 1)]
    match opening.type:
        case "heading_open" if len(inside[0].content) <= MAX_HEADING_CHARS:
            level = int(opening.tag.removeprefix("h"))
            return Block(BlockKind.HEADING, start, end, level=level, heading=plain_text(inside[0].content))
        case "fence" | "code_block":
            return Block(BlockKind.CODE, start, end)
        case "table_open":
            return Block(BlockKind.TABLE, start, end, header_end=lines[min(first + 2, last)])
        case "bullet_list_open" | "ordered_list_open":
            items = (token.map[0] for token in inside if token.type == "list_item_open" and token.map)
            cuts = sorted({lines[item] for item in items} - {start})
            return Block(BlockKind.LIST, start, end, cuts=tuple(cuts))
        case _:
            return Block(BlockKind.PROSE, start, end)


def plain_text(inline: str) -> str:
    """A line of Markdown without markup: only the text of links, images and code remains; spaces are single."""
    children = INLINE_PARSER.parseInline(inline)[0].children or []
    text = "".join(" " if child.type in {"softbreak", "hardbreak"} else child.content for child in children)
    return " ".join(text.split())
