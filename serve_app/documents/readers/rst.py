"""reStructuredText: .rst → Markdown text, parsed by docutils. The text of directives and roles that only Sphinx knows
is kept."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

from serve_app.documents.encoding import clean, decode
from serve_app.documents.readers import markdown_text
from serve_app.documents.readers.markdown_text import join_blocks, one_line
from serve_app.documents.readers.result import ReadResult, read_whole, result_of
from serve_app.types import Document

SETTINGS = {
    "_disable_config": True,
    "file_insertion_enabled": False,  # no include, no csv-table from a file or URL
    "raw_enabled": False,
    "report_level": 3,  # an unknown directive is reported together with its text
    "halt_level": 5,
    "warning_stream": False,
    "syntax_highlight": "none",
    "smart_quotes": False,
}
# Characters without a blank line. The time of docutils for inline markup is quadratic: 90,000 took a minute.
MAX_BLOCK_CHARS = 20_000
BLANK_LINES = re.compile(r"\n[ \t]*\n")
# :py:func:`~package.name`, :ref:`title <target>`
ROLE = re.compile(r"(?::[\w.+-]+)+:`[~!]?(?P<text>[^`<]*?)(?:\s*<(?P<target>[^`>]*)>)?`")
DIRECTIVE = re.compile(r"\.\.\s+(?P<name>[\w:.+-]+?)::[ \t]*(?P<argument>[^\n]*)(?P<body>.*)", re.DOTALL)
OPTIONS = re.compile(
    r"\A\n?(?:[ \t]*:[\w-]+:(?!`)[^\n]*(?:\n|\Z))+"
)  # options end at a blank line; a role such as :ref:`x` is text
SILENT = (nodes.comment, nodes.substitution_definition, nodes.target, nodes.pending, nodes.raw, nodes.decoration)
CODE_DIRECTIVES = {"code", "code-block", "sourcecode"}
NAVIGATION = {"toctree", "include", "literalinclude", "index"}  # names of files and anchors, not text
LANGUAGE = re.compile(r"[\w+#.-]{1,20}")


def read_rst(path: Path, document_id: str) -> Iterator[ReadResult]:
    """One document. Its title is the text's title, else the file's name."""

    def build() -> Document:
        title, text = rst_to_markdown(decode(read_whole(path)))
        return Document(document_id, text, title or path.stem)

    yield result_of(document_id, build)


def rst_to_markdown(source: str) -> tuple[str, str]:
    """The title ("" if it has none) and the text as Markdown, which begins with the title as a heading. If docutils
    cannot parse the source or finds only comments, the text is the source itself: nothing is lost."""
    if max(map(len, BLANK_LINES.split(source))) > MAX_BLOCK_CHARS:
        return "", source
    try:
        tree = publish_doctree(source, settings_overrides=SETTINGS)
        title = one_line(tree.get("title", ""))
        text = clean(join_blocks(_children(tree, 1 if title else 0)))
    except Exception:  # nested deeper than Python's stack, or a bug in docutils
        title, text = "", ""
    return (title, text) if text.strip() else ("", source)


def _children(node: nodes.Element, level: int) -> Iterator[str]:
    for child in node.children:
        yield from _blocks(child, level)


def _blocks(node: nodes.Node, level: int) -> Iterator[str]:
    """Markdown blocks of a docutils node. level: heading level of the node's title."""
    match node:
        case nodes.Text():
            yield one_line(node.astext())
        case nodes.section():
            yield from _children(node, level + 1)
        case nodes.title() | nodes.subtitle() if isinstance(node.parent, nodes.section | nodes.document):
            deeper = isinstance(node.parent, nodes.document) and isinstance(node, nodes.title)
            yield markdown_text.heading(1 if deeper else level, _inline(node))
        case nodes.literal_block() | nodes.doctest_block():
            yield markdown_text.code_block(node.astext(), _language(node))
        case nodes.bullet_list() | nodes.enumerated_list():
            yield "\n".join(_items(node, level))
        case nodes.definition_list_item() | nodes.field():
            name, body = _inline(node.children[0]), join_blocks(_children(node.children[-1], level))
            yield markdown_text.list_item("-", f"{one_line(name)}: {body}")
        case nodes.table():
            yield from _table(node)
        case nodes.system_message():
            yield from _unknown_directive(node)
        case nodes.TextElement():
            yield _inline(node) if isinstance(node, nodes.line) else one_line(_inline(node))
        case nodes.image():
            yield one_line(node.get("alt", ""))
        case nodes.Element() if not isinstance(node, SILENT):
            yield from _children(node, level)


def _inline(node: nodes.Node) -> str:
    """Text without markup."""
    match node:
        case nodes.Text():
            return node.astext()
        case nodes.problematic():
            return _without_roles(node.astext())
        case nodes.image():
            return str(node.get("alt", ""))
        case nodes.Element() if not isinstance(node, SILENT):
            return "".join(_inline(child) for child in node.children)
    return ""


def _language(node: nodes.Element) -> str:
    names = [name for name in node.get("classes", ()) if name != "code"]
    return names[0] if names and LANGUAGE.fullmatch(names[0]) else ""


def _items(node: nodes.Element, level: int) -> Iterator[str]:
    for number, item in enumerate(node.children, start=int(node.get("start", 1))):
        body = join_blocks(_children(item, level)) if isinstance(item, nodes.Element) else ""
        marker = f"{number}." if isinstance(node, nodes.enumerated_list) else "-"
        yield markdown_text.list_item(marker, body)


def _table(node: nodes.table) -> Iterator[str]:
    yield from (one_line(_inline(title)) for title in node.children if isinstance(title, nodes.title))
    rows = [[cell.astext() for cell in row.children] for row in node.findall(nodes.row)]
    yield markdown_text.table(rows)


def _unknown_directive(message: nodes.system_message) -> Iterator[str]:
    """The text of a directive that docutils does not know. Messages of other kinds carry no text of the document."""
    for block in message.children:
        if isinstance(block, nodes.literal_block):
            yield from _directive(block.astext())


def _directive(source: str) -> Iterator[str]:
    directive = DIRECTIVE.match(source)
    if directive is None:
        yield source
        return
    name, argument, body = directive["name"], directive["argument"], textwrap.dedent(directive["body"])
    if name in CODE_DIRECTIVES:  # docutils refused an option that only Sphinx knows
        yield markdown_text.code_block(OPTIONS.sub("", body), argument if LANGUAGE.fullmatch(argument) else "")
    elif name not in NAVIGATION:
        yield one_line(_without_roles(f"{name} {argument}"))
        yield from (one_line(part) for part in BLANK_LINES.split(_without_roles(OPTIONS.sub("", body))))


def _without_roles(text: str) -> str:
    return ROLE.sub(lambda role: role["text"].strip() or role["target"] or "", text)
