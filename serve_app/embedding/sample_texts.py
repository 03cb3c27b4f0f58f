"""Texts for comparing a converted model with the original: docstrings of Python's standard library.

They are real prose of all lengths, exist on every machine with Python, need no download and no extra licence, and are
the same for all users of a Python version. They are read with `ast`; nothing is imported or run.
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "argparse", "ast", "bisect", "calendar", "collections/__init__", "configparser", "csv", "dataclasses",
    "difflib", "doctest", "email/message", "fractions", "functools", "heapq", "http/client", "imaplib",
    "inspect", "ipaddress", "json/__init__", "logging/__init__", "mailbox", "optparse", "os", "pathlib",
    "pickletools", "random", "shutil", "smtplib", "statistics", "subprocess", "tarfile", "textwrap",
    "threading", "turtle", "typing", "unittest/case", "unittest/mock", "urllib/request", "uuid", "zipfile",
)  # fmt: skip
ODD = (  # other scripts, very short and repetitive texts: these show an error first
    "数据库连接已关闭，请检查配置文件中的主机名和端口。",
    "検索結果が見つかりませんでした。別のキーワードをお試しください。",
    "검색 결과가 없습니다. 다른 키워드로 다시 시도해 주세요.", "Документ был удалён по просьбе пользователя.",
    "لا توجد نتائج مطابقة لبحثك.", "Die Rechnung wurde am 3. März fällig gestellt 💶",
    "", "?", "!", "ok", "Yes.", "I am", "#1", "😀", "Hi there", "...", "{}", "no, no, no",
    "more " * 200, "this and that " * 60, "龘" * 120, "😀" * 80, "z" * 400, "7 " * 150, "= " * 100,
)  # fmt: skip
MIN_CHARS = 20


def sample_texts(limit: int, modules: tuple[str, ...] = MODULES) -> list[str]:
    """Up to `limit` texts, the same in each call: those in ODD, then docstrings sampled evenly."""
    docstrings = [text for module in modules for text in module_docstrings(module)]
    step = max(1, len(docstrings) // max(1, limit - len(ODD)))
    return [*ODD, *docstrings[::step]][:limit]


def module_docstrings(module: str) -> Iterator[str]:
    """Cleaned docstrings of a module in the standard library (`email/message`), in order; none if it has no source."""
    file = Path(os.__file__).parent / f"{module}.py"
    if not file.is_file():
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            if len(text) >= MIN_CHARS:
                yield text
