from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.encoding import clean, decode, unicode_encoding
from serve_app.errors import UnreadableDocument


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        ("café", "latin-1 utf-8 utf-8-sig utf-16 utf-32"),
        ("plain ASCII", "ascii utf-16-le utf-16-be utf-16 utf-32"),
        ("café au lait et déjà vu, à bientôt", "cp1252 utf-8"),
        ("“quoted” – and it’s €5", "cp1252"),
        ("El niño comió mañana, ¿qué tal? año", "latin-1"),
        ("Zażółć gęślą jaźń, proszę państwa", "cp1250"),
        ("Привет мир, как дела сегодня", "cp1251"),
        ("Привет мир, как дела сегодня, расскажи мне о себе", "koi8-r cp1251"),
        ("Καλημέρα κόσμε, τι κάνεις", "cp1253"),
        ("日本語のテキストです。これは二番目の文です", "shift_jis euc_jp utf-16"),
        ("中文文本，这是一个测试", "gb18030"),
        ("한국어 텍스트입니다. 두 번째 문장", "cp949"),
        ("서울 날씨가 좋다", "cp949"),
        ("灯塔守护人的日记", "gb18030"),
        ("燈塔守護人的日記", "big5"),
        ("灯台守の日記", "euc_jp"),
        ("灯台守の日記です", "shift_jis"),
    ],
)
def test_encodings_are_found(text: str, encodings: str) -> None:
    for encoding in encodings.split():
        assert decode(text.encode(encoding)) == text, encoding


GERMAN = "Die Gebühr beträgt fünf Euro und wird jährlich geprüft.\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (GERMAN.encode() * 3 + b"Ende f\xc3", GERMAN * 3 + "Ende f\ufffd"),
        (GERMAN.encode() + b"M\xfcller", GERMAN + "M\ufffdller"),
        ("Naïve – “quoted”".encode() + b" \xa9", "Naïve – “quoted” \ufffd"),
        ("日記".encode() + b"\xff", "日記\ufffd"),
    ],
)
def test_a_damaged_byte_costs_its_character_and_no_other(content: bytes, text: str) -> None:
    assert decode(content) == text


@pytest.mark.parametrize(
    ("text", "declared", "encoding"),
    [
        ("Şişli ağır yağış", "iso-8859-9", "cp1254"),
        ("灯台守の日記", "EUC-JP", "euc_jp"),
        ("灯塔守护人的日记", "gb2312", "gb18030"),
        ("Привет", "koi8-r", "koi8-r"),
        ("日本", "iso-2022-jp", "iso2022_jp"),  # all ASCII bytes
        ("déjà vu", "iso-8859-1", "utf-8"),  # declares what it is not
        ("déjà vu", "utf-16", "utf-8"),  # cannot be
        ("déjà vu", "no such encoding", "cp1252"),
        ("déjà vu – oui", "utf-8", "utf-16"),
    ],
)
def test_a_declared_encoding_counts_unless_the_bytes_say_otherwise(text: str, declared: str, encoding: str) -> None:
    assert decode(text.encode(encoding), declared) == text


def test_control_characters_go_and_line_ends_are_one() -> None:
    assert decode(b"a\x00b\r\nc\rd\x0ce\tf\x1b") == "ab\nc\nd\ne\tf"


def test_text_is_composed() -> None:
    assert clean("cafe\u0301 \ud83d") == "café \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("content", [b"\x00" * 64, bytes(range(256)), b"\xff\x00\xfe" * 50, b"text\x01\x02\x03" * 9])
def test_binary_is_told(content: bytes) -> None:
    with pytest.raises(UnreadableDocument, match="looks binary"):
        decode(content)


@given(st.binary(max_size=300))
def test_bytes_are_clean_text_or_binary(content: bytes) -> None:
    try:
        text = decode(content)
    except UnreadableDocument:
        return
    assert clean(text) == text
    assert "\x00" not in text
    text.encode()


def test_zeros_in_both_halves_of_a_pair_are_no_sign_of_utf_16() -> None:
    assert unicode_encoding(b"A\x00B\x00" * 50) == "utf-16-le"
    assert unicode_encoding(b"\x00\x00A\x00" * 50) == "utf-8"
