"""A Python module's docstrings as Markdown, read by `ast`: the module is never imported."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from serve_app.documents.encoding import clean
from serve_app.documents.readers.markdown_text import code_block, heading, join_blocks

MAX_MODULE_BYTES = 2 * 1024 * 1024
MAX_SIGNATURE_CHARS = 400

UNDERLINED = re.compile(r"^([^\n]+)\n[ \t]*([-=~^])\2{2,}[ \t]*$", re.MULTILINE)  # a section of NumPy's style
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_entries(path: Path) -> list[str]:
    """The module's docstring, then an entry for each public class, method and function that has a docstring: a
    heading, the signature as code, the docstring. Empty for a file that is not Python 3."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the module's strings
            tree = ast.parse(source) if len(source) <= MAX_MODULE_BYTES else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    own = _docstring(tree)
    return [*([own] if own else []), *_entries(tree, "", 2)]


def _entries(parent: ast.Module | ast.ClassDef, prefix: str, level: int) -> Iterator[str]:
    for node in parent.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = prefix + node.name
        text = _docstring(node)
        if text:
            yield join_blocks([heading(level, f"`{name}`"), code_block(signature(node), "python"), text])
        if isinstance(node, ast.ClassDef):
            yield from _entries(node, f"{name}.", level + 1)


def _docstring(node: ast.Module | ast.ClassDef | Function) -> str:
    """The cleaned docstring. Underlined section titles become labels, because the chunker would split at headings."""
    text = clean(ast.get_docstring(node) or "")
    return UNDERLINED.sub(r"\1:\n", text).strip()


def signature(node: ast.ClassDef | Function) -> str:
    """The definition without its body: `async def get(url: str) -> bytes`."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        text = f"class {node.name}({bases})" if bases else f"class {node.name}"
    else:
        kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        text = f"{kind} {node.name}({ast.unparse(node.args)}){returns}"
    text = clean(text)
    return text if len(text) <= MAX_SIGNATURE_CHARS else text[:MAX_SIGNATURE_CHARS] + "…"
