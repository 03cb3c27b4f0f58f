"""Bytes → text: which encoding they are in, and whether they are text at all."""

from __future__ import annotations

import codecs
import re
import unicodedata

from charset_normalizer import from_bytes

from serve_app.errors import UnreadableDocument

SAMPLE_BYTES = 65_536  # what an encoding is guessed from
MAX_CONTROL_RATIO = 0.05  # of characters; text has fewer
MAX_CONTROLS = 4  # that say nothing in a short text

BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What files that are not UTF-8 are in, outside museums; the wider the choice, the worse the guess on short text.
LEGACY = [f"cp125{page}" for page in range(9)] + ["koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949", "tis_620"]
DEFAULT_LEGACY = (
    "cp1252"  # of the web (WHATWG) and of Windows in most of the world; wins where nothing speaks against it
)
ALLOWANCE = 0.1

CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")  # white space is none; C1 are letters in wrong clothes
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
SURROGATE = re.compile("[\ud800-\udfff]")
LINE_END = re.compile("\r\n?|\x0c|\x85|\u2028|\u2029")


def decode(content: bytes) -> str:
    """The text, cleaned. Raises UnreadableDocument if the bytes look binary."""
    return clean(content.decode(encoding_of(content), errors="replace"))


def encoding_of(content: bytes, *, whole: bool = True) -> str:
    """A codec's name: by byte order mark, UTF-8 if it is valid, else the best guess from the beginning.
    whole: False if `content` is the beginning of a file, which may end inside a character.
    Raises UnreadableDocument if the bytes look binary."""
    encoding = _guess(content, whole)
    sample = content[:SAMPLE_BYTES].decode(encoding, errors="ignore")
    if len(CONTROL.findall(sample)) > MAX_CONTROLS + MAX_CONTROL_RATIO * len(sample):
        raise UnreadableDocument("looks binary: it is not text in any known encoding; convert it or take it out")
    return encoding


def unicode_encoding(content: bytes) -> str:
    """For formats that are Unicode by definition, as JSON is: UTF-16 or UTF-32 if it looks so, else UTF-8."""
    marked = (encoding for mark, encoding in BOMS if content.startswith(mark))
    return next(marked, "") or _utf16_without_mark(content[:SAMPLE_BYTES]) or "utf-8"


def _guess(content: bytes, whole: bool) -> str:
    encoding = unicode_encoding(content)
    return encoding if encoding != "utf-8" or _is_utf8(content, whole) else _legacy(content[:SAMPLE_BYTES])


def _is_utf8(content: bytes, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(sample: bytes) -> str:
    """UTF-16 of mostly Latin text has a NUL in every other byte, and only there."""
    if len(sample) < 4:
        return ""
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    if max(even, odd) > 0.6 and min(even, odd) < 0.1:
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def _legacy(sample: bytes) -> str:
    if b"\x00" in sample:
        raise UnreadableDocument("looks binary: it has NUL bytes and is not UTF-8; convert it or take it out")
    matches = list(from_bytes(sample, cp_isolation=LEGACY, enable_fallback=False))
    if not matches:
        raise UnreadableDocument("looks binary: it is not text in any known encoding; convert it or take it out")
    best = matches[0]
    default = [match for match in matches if match.encoding == DEFAULT_LEGACY]
    if default and default[0].chaos <= best.chaos + ALLOWANCE and default[0].coherence >= best.coherence - ALLOWANCE:
        return DEFAULT_LEGACY
    return best.encoding


def clean(text: str) -> str:
    """Text as everything after the readers may rely on: Unicode NFC, lines end in \\n, no control characters but
    \\t and \\n, U+FFFD for each lone surrogate."""
    text = LINE_END.sub("\n", text)
    text = SURROGATE.sub("\N{REPLACEMENT CHARACTER}", NOT_TEXT.sub("", text))
    return text if text.isascii() else unicodedata.normalize("NFC", text)
