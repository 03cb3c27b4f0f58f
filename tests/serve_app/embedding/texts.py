"""Real texts for comparing engines: prose of the standard library (from modules that the converter does not use),
Cranfield abstracts if the shared data is present, and texts that are hard for tokenizers."""

import json
from functools import cache
from pathlib import Path

from serve_app.embedding.sample_texts import MODULES, module_docstrings

PROSE_MODULES = (
    "asyncio/base_events", "codecs", "concurrent/futures/_base", "copy", "decimal", "_pydecimal", "datetime",
    "enum", "fileinput", "ftplib", "gettext", "glob", "hashlib", "html/parser", "locale", "numbers", "operator",
    "pdb", "platform", "pprint", "profile", "queue", "re/__init__", "sched", "secrets", "shelve", "socket",
    "socketserver", "sqlite3/dbapi2", "ssl", "string", "tempfile", "timeit", "trace", "traceback", "types",
    "warnings", "wave", "weakref", "xml/dom/minidom", "zipapp",
)  # fmt: skip
ODD = (
    "", " ", "\n", "a", "I", ".", "?!", "42", "🙂", "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "naïve café résumé Ångström", "ﬁnance ﬂow ①②③",
    "数据库连接失败", "東京は日本の首都です。", "한국어 문장입니다.", "Привет, мир!", "مرحبا بالعالم",
    "नमस्ते दुनिया", "שלום עולם",
    "Ελληνικά κείμενα", "ภาษาไทยไม่มีช่องว่าง", "e\u0301 combining", "a\0b nul", "tab\tand\r\nline ends",
    "\u200bzero\u200bwidth", "x" * 150, "supercalifragilisticexpialidocious" * 3, "https://example.com/a?b=c#d",
    "def f(x: int) -> str: return str(x)", "<div class='x'>&amp;</div>", "SELECT * FROM t WHERE a = 'b';",
    "[CLS] and [SEP] and [MASK] as text", "UPPER lower MiXeD", "1,234.56 € – 50 % … “quoted”", "\ufffd", "\u00ad soft",
    "word " * 253, "word " * 254, "word " * 255, "word " * 300, "one two three " * 2_000, "中" * 400, "🙂" * 300,
    "a" * 5_000, " " * 5_000 + "after much space", "tail " * 100 + " " * 9_000 + "end",
)  # fmt: skip


@cache  # parsing a part of the standard library takes a second
def golden_texts() -> tuple[str, ...]:
    """At least 200, of 1 to more than 256 tokens, the same order in each call; none is a text of the converter's."""
    assert not set(PROSE_MODULES) & set(MODULES)
    prose = [text for module in PROSE_MODULES for text in module_docstrings(module)]
    return (*ODD, *prose[:: max(1, len(prose) // 160)][:160], *_abstracts(12))


def _abstracts(limit: int) -> list[str]:
    corpus = Path(__file__).parents[3].parent / "shared" / "data" / "cranfield" / "corpus.jsonl"
    if not corpus.is_file():
        return []
    with corpus.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for _, line in zip(range(limit), lines, strict=False)]
