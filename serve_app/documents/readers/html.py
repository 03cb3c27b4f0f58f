"""HTML: .html .htm → Markdown text. Scripts, styles and navigation are dropped; headings, lists, tables and
preformatted text keep their structure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from serve_app.documents.encoding import clean, decode
from serve_app.documents.readers import markdown_text
from serve_app.documents.readers.markdown_text import join_blocks, one_line
from serve_app.documents.readers.result import ReadResult, read_whole, result_of
from serve_app.errors import UnreadableDocument
from serve_app.types import Document

DROPPED = ["script", "style", "nav", "noscript", "template", "svg", "iframe", "head"]
BLOCK_TAGS = (
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3"
    " h4 h5 h6 header hr li main ol p pre section summary table tbody td tfoot th thead tr ul"
)
BLOCKS = frozenset(BLOCK_TAGS.split())
HEADINGS = {f"h{level}": level for level in range(1, 7)}
MAX_DEPTH = 200  # deeper elements contribute only their text
MAX_OPEN_TAGS = 5_000  # the parser's time is quadratic in the depth: 100,000 open tags take minutes
# Possessive quantifiers keep the time linear for any source.
ATTRIBUTES = r"""(?:[^=>]++|=\s*+(?:"[^"]*+"?+|'[^']*+'?+)?+)*+>?+"""
MARKUP = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"  # a comment
    r"|<[!?][^>]*+"  # a doctype or processing instruction
    rf"|<(?i:(?P<raw>script|style|textarea|title|iframe|xmp)(?=[\s/>]){ATTRIBUTES}.*?(?:</(?P=raw)|\Z))"  # raw text
    rf"|<(?P<close>/?)(?P<name>[a-zA-Z][^\s/>]*+){ATTRIBUTES}",
    re.DOTALL,
)
# These tags do not count towards the depth: they are never closed, or the next tag closes them.
UNCLOSED_TAGS = (
    "area base br col embed hr img input link meta param source track wbr"
    " p li dd dt td th tr tbody tfoot thead colgroup option optgroup rp rt"
)
UNCOUNTED = frozenset(UNCLOSED_TAGS.split())
MAX_SPAN = 1_000  # rows or columns of one cell (HTML standard, 4.9.11)
DECLARED_WITHIN_BYTES = 1_024
DECLARED = re.compile(
    rb"""\A\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)"""
    rb"""|<meta[^>]*?[\s;"']charset\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
DRAWINGS = frozenset({"svg", "math"})  # only in these does `/>` close a tag (HTML standard, 13.1.2.1)


def read_html(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document. Its title is `<title>`, else the first `<h1>`, else the file's name."""
    yield result_of(document_id, lambda: html_document(decode_html(read_whole(path)), document_id, path.stem))


def decode_html(content: bytes) -> str:
    """The text. A declaration of the encoding counts within the first 1,024 bytes (HTML standard, 13.2.3.2)."""
    declared = DECLARED.search(content[:DECLARED_WITHIN_BYTES])
    return decode(content, next(filter(None, declared.groups()), b"").decode("ascii") if declared else "")


def html_document(source: str, document_id: str, default_title: str) -> Document:
    require_shallow(source)
    tree = LexborHTMLParser(source)
    titles = (node.text() for name in ("title", "h1") if (node := tree.css_first(name)) is not None)
    title = next((one_line(clean(title)) for title in titles if title.strip()), default_title)
    has_scripts = tree.css_first("script") is not None
    text = html_to_markdown(tree)
    if has_scripts and not text:
        raise UnreadableDocument("has no text, because scripts create its content: save the page from a browser")
    return Document(document_id, text, title)


def require_shallow(source: str) -> None:
    """Raises UnreadableDocument if too many tags are open at once."""
    depth = drawings = 0
    for tag in MARKUP.finditer(source):
        name = (tag["name"] or "").lower()
        if not name or name in UNCOUNTED:
            continue
        in_drawing = (drawings or name in DRAWINGS) and name not in BLOCKS  # a block ends the drawing
        if not tag["close"] and in_drawing and tag[0].endswith("/>"):
            continue
        step = -1 if tag["close"] else 1
        depth = max(0, depth + step)
        drawings = max(0, drawings + step * (name in DRAWINGS))
        if depth > MAX_OPEN_TAGS:
            raise UnreadableDocument(f"has more than {MAX_OPEN_TAGS} tags open at once: close them")


def html_to_markdown(tree: LexborHTMLParser) -> str:
    tree.strip_tags(DROPPED, recursive=True)
    return clean(join_blocks(_blocks(tree.root, 0))) if tree.root is not None else ""


def _children(node: LexborNode) -> Iterator[LexborNode]:
    child = node.first_child
    while child is not None:
        yield child
        child = child.next


def _blocks(node: LexborNode, depth: int) -> Iterator[str]:
    """The blocks inside a node; adjoining text and inline elements make a paragraph."""
    if depth > MAX_DEPTH:
        yield one_line(node.text(separator=" "))
        return
    inline: list[str] = []
    for child in _children(node):
        if child.is_text_node or child.tag in {"br", "img"} or not _holds_block(child):
            inline.append(_inline(child))
            continue
        yield _paragraph(inline)
        inline = []
        yield from _block(child, depth + 1)
    yield _paragraph(inline)


def _holds_block(node: LexborNode) -> bool:
    return node.is_element_node and (node.tag in BLOCKS or any(one.tag in BLOCKS for one in node.traverse()))


def _inline(node: LexborNode) -> str:
    if node.is_text_node:
        return node.text_content or ""
    if not node.is_element_node:
        return ""  # a comment
    parts: list[str] = []
    for one in node.traverse(include_text=True):
        if parts and (_is_block(one) or _is_block(one.prev)):
            parts.append(" ")  # keeps the words on both sides apart
        if one.is_text_node:
            parts.append(one.text_content or "")
        elif one.tag == "br":
            parts.append("\n")
        elif one.tag == "img":
            parts.append(one.attributes.get("alt") or "")
    return "".join(parts)


def _is_block(node: LexborNode | None) -> bool:
    return node is not None and node.is_element_node and node.tag in BLOCKS


def _paragraph(inline: list[str]) -> str:
    return one_line("".join(inline))


def _block(node: LexborNode, depth: int) -> Iterator[str]:
    tag = node.tag or ""
    if tag in HEADINGS:
        yield markdown_text.heading(HEADINGS[tag], _inline(node))
    elif tag == "pre":
        yield markdown_text.code_block(_inline(node))
    elif tag in {"ul", "ol"}:
        yield "\n".join(_items(node, depth))
    elif tag == "table" and _is_grid(node):
        rows = _grid([row.css("th, td") for row in node.css("tr")])
        yield from (_paragraph([_inline(caption)]) for caption in node.css("caption"))
        yield markdown_text.table(rows)
    else:
        yield from _blocks(node, depth)


def _items(node: LexborNode, depth: int) -> Iterator[str]:
    number = 0
    for child in _children(node):
        body = join_blocks(_blocks(child, depth + 1)) if child.is_element_node else _paragraph([_inline(child)])
        if body:
            number += 1
            yield markdown_text.list_item(f"{number}." if node.tag == "ol" else "-", body)


def _grid(rows: list[list[LexborNode]]) -> list[list[str]]:
    """The texts of the cells, each in its column. A cell that spans rows is repeated in each row. A cell that spans
    columns fills the first and leaves the others empty."""
    grid: list[list[str]] = []
    spanning: dict[int, tuple[str, int]] = {}  # column → text, number of rows that it still covers
    for row in rows:
        cells: list[str] = []
        waiting = deque(row)
        while waiting or len(cells) in spanning:
            text, left = spanning.pop(len(cells), ("", 0))
            if left:
                spanning |= {len(cells): (text, left - 1)} if left > 1 else {}
                cells.append(text)
                continue
            cell = waiting.popleft()
            text, more_rows = _inline(cell), _span(cell, "rowspan") - 1
            for column in range(len(cells), len(cells) + _span(cell, "colspan")):
                if more_rows:
                    spanning[column] = text if column == len(cells) else "", more_rows
                cells.append(text)
                text = ""
        grid.append(cells)
    return grid


def _span(cell: LexborNode, name: str) -> int:
    value = cell.attributes.get(name) or ""
    return min(max(int(value), 1), MAX_SPAN) if value.isascii() and value.isdigit() else 1


def _is_grid(table: LexborNode) -> bool:
    """Whether the table holds data. A table that contains tables, code or headings is used for layout."""
    inside = (one.tag for one in table.traverse() if one.mem_id != table.mem_id)
    return not any(tag in {"table", "pre"} or tag in HEADINGS for tag in inside)
