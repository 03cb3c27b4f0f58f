"""Bytes → text: detects the encoding and refuses bytes that are not text."""

from __future__ import annotations

import codecs
import re
import unicodedata

import webencodings
from charset_normalizer import from_bytes

from serve_app.errors import UnreadableDocument

SAMPLE_BYTES = 65_536  # an encoding is guessed from the first bytes only
MAX_CONTROL_RATIO = 0.05  # control characters per character; text has fewer
MAX_CONTROLS = 4  # so few are allowed even in a short text

BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The encodings still in use besides UTF-8. A longer list would make the guess on short texts worse.
LEGACY = [f"cp125{page}" for page in range(9)] + ["koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949", "tis_620"]
DEFAULT_LEGACY = (
    "cp1252"  # the default of the web (WHATWG) and of Windows in most countries; preferred unless another fits better
)
ALLOWANCE = 0.1
# For each East Asian encoding: the standard whose first level has its common characters, and the range of their first
# bytes. Korean precedes Chinese: a text in Hangul reads as common Chinese too, but rarely the reverse.
COMMON_LEADS = {
    "euc_jp": ("euc_jp", b"\xb0", b"\xcf"),
    "cp932": ("euc_jp", b"\xb0", b"\xcf"),
    "cp949": ("euc_kr", b"\xb0", b"\xc8"),
    "gb18030": ("gb2312", b"\xb0", b"\xd7"),
    "big5": ("big5", b"\xa4", b"\xc6"),
}
JAPANESE = ("euc_jp", "cp932")
KANA = re.compile("[\u3040-\u30ff]")

CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")  # not white space, not C1: those bytes are often letters
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
SURROGATE = re.compile("[\ud800-\udfff]")
TWO_BYTES = re.compile("[\x80-\u07ff]")  # characters that UTF-8 encodes as two bytes
MORE_BYTES = re.compile("[\u0800-\ud7ff\ue000-\U0010ffff]")
LINE_END = re.compile("\r\n?|\x0c|\x85|\u2028|\u2029")


def decode(content: bytes, declared: str = "") -> str:
    """The cleaned text. U+FFFD replaces bytes that are invalid in its encoding.

    declared: as in `encoding_of`. Raises UnreadableDocument if the bytes look binary."""
    return clean(content.decode(encoding_of(content, declared=declared), errors="replace"))


def encoding_of(content: bytes, *, whole: bool = True, declared: str = "") -> str:
    """The name of the codec. The first rule that applies decides: the byte order mark; valid UTF-8; the declared
    encoding; UTF-8 with a few damaged bytes; the best guess from the first SAMPLE_BYTES.

    whole: False if `content` is only the beginning of a file and may end inside a character. declared: a label of the
    WHATWG Encoding Standard; an unknown one is ignored. Raises UnreadableDocument if the bytes look binary."""
    encoding = _encoding(content, whole, declared)
    sample = content[:SAMPLE_BYTES].decode(encoding, errors="ignore")
    if len(CONTROL.findall(sample)) > MAX_CONTROLS + MAX_CONTROL_RATIO * len(sample):
        raise UnreadableDocument("looks binary: it is not text in any known encoding; convert it or remove it")
    return encoding


def unicode_encoding(content: bytes) -> str:
    """The codec for formats that are always Unicode, such as JSON: UTF-16 or UTF-32 if detected, else UTF-8."""
    marked = (encoding for mark, encoding in BOMS if content.startswith(mark))
    return next(marked, "") or _utf16_without_mark(content[:SAMPLE_BYTES]) or "utf-8"


def _encoding(content: bytes, whole: bool, declared: str) -> str:
    encoding = unicode_encoding(content)
    if encoding != "utf-8":
        return encoding
    declared_codec = _codec_of(declared)
    if _is_utf8(content, whole):  # valid UTF-8 overrides another declared encoding, unless all bytes are ASCII
        return declared_codec if declared_codec and content.isascii() else encoding
    if declared_codec:
        return declared_codec
    return encoding if _is_damaged_utf8(content) else _legacy(content[:SAMPLE_BYTES])


def _codec_of(label: str) -> str:
    """Python's name of a declared encoding; "" if it is unknown. A declaration of UTF-16 means UTF-8: it was readable
    as ASCII, so the document is not UTF-16 (HTML standard, 13.2.3.2)."""
    encoding = webencodings.lookup(label)
    if encoding is None or encoding.name == "x-user-defined":
        return ""
    return "utf-8" if encoding.name.startswith("utf-16") else str(encoding.codec_info.name)


def _is_utf8(content: bytes, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _is_damaged_utf8(content: bytes) -> bool:
    """Whether most bytes outside ASCII form valid UTF-8. In other encodings such sequences are rare, and long ones
    rarer: one sequence of three bytes or more counts as much as three of two bytes."""
    text = content.decode("utf-8", errors="surrogateescape")
    stray_bytes = len(SURROGATE.findall(text))
    valid = len(TWO_BYTES.findall(text)) + 3 * len(MORE_BYTES.findall(text))
    return valid >= 2 * stray_bytes


def _utf16_without_mark(sample: bytes) -> str:
    """Detects UTF-16 of mostly Latin text: every other byte is NUL, and no others are."""
    if len(sample) < 4:
        return ""
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    if max(even, odd) > 0.6 and min(even, odd) < 0.1:
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def _legacy(sample: bytes) -> str:
    if b"\x00" in sample:
        raise UnreadableDocument("looks binary: it has NUL bytes and is not UTF-8; convert it or remove it")
    matches = list(from_bytes(sample, cp_isolation=LEGACY, enable_fallback=False))
    if not matches:
        raise UnreadableDocument("looks binary: it is not text in any known encoding; convert it or remove it")
    best = matches[0]
    default = [match for match in matches if match.encoding == DEFAULT_LEGACY]
    if default and default[0].chaos <= best.chaos + ALLOWANCE and default[0].coherence >= best.coherence - ALLOWANCE:
        return DEFAULT_LEGACY
    return _east_asian(sample) if best.encoding in COMMON_LEADS else best.encoding


def _east_asian(sample: bytes) -> str:
    """The East Asian encoding in which most letters are common in its language. charset_normalizer ignores how common
    a letter is, and takes a short Chinese text for rare Korean."""

    def common_ratio(encoding: str) -> float:
        text = sample.decode(encoding, errors="replace")
        letters = [letter for letter in text if letter.isalpha() and not letter.isascii()]
        if encoding in JAPANESE and not any(map(KANA.match, letters)):
            return 0.0
        return sum(_is_common(letter, encoding) for letter in letters) / max(len(letters), 1)

    return max(COMMON_LEADS, key=common_ratio)


def _is_common(letter: str, encoding: str) -> bool:
    standard, first, last = COMMON_LEADS[encoding]
    return bool(KANA.match(letter)) or first <= letter.encode(standard, errors="ignore")[:1] <= last


def clean(text: str) -> str:
    """The text in the form that all later stages rely on: Unicode NFC, lines that end in \\n, no control characters
    except \\t and \\n, U+FFFD for each lone surrogate."""
    text = LINE_END.sub("\n", text)
    text = SURROGATE.sub("\N{REPLACEMENT CHARACTER}", NOT_TEXT.sub("", text))
    return text if text.isascii() else unicodedata.normalize("NFC", text)
