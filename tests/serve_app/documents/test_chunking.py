"""Properties that hold for any text, then examples of what makes a good passage."""

from __future__ import annotations

import time
import timeit
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_app.documents.chunking import SPECIAL_TOKENS, chunk, embedding_title
from serve_app.errors import ConfigurationError
from serve_app.settings import ChunkingSettings
from serve_app.types import Passage
from tests.serve_app.documents.conftest import default_tokenizer

TOKENIZER = default_tokenizer()
LINES = ("# A", "## B", "### C *d*", "- item", "  - inner", "1. one", "```", "    code", "> quote", "---", "===", "<p>")
INLINE = (
    "text ",
    "A sentence. ",
    "Two? ",
    "[a]: http://b",
    "`",
    "*",
    "http://a.b/c?d=e&f ",
    "x" * 150,
    "漢字。",
    "é",
    "ﷺ",
    "🙂",
)
BLANK = ("\n", "\n\n", "\r\n", "\r", "\t", " " * 90, "\u200b", "\x00", "\x0c", "\u2028")
MARKDOWN = st.sampled_from([*(f"{line}\n" for line in LINES), *INLINE, *BLANK])
ANY_TEXT = st.one_of(st.lists(MARKDOWN, max_size=80).map("".join), st.text(max_size=400))


def cut(text: str, title: str = "", max_tokens: int = 256, overlap_tokens: int = 0) -> list[Passage]:
    chunking = ChunkingSettings(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    title = embedding_title(title, tokenizer=TOKENIZER, settings=chunking)
    return chunk(text, title=title, tokenizer=TOKENIZER, settings=chunking)


def solid(text: str) -> str:
    return "".join(text.split())


def words(count: int, word: str = "alpha") -> str:
    return " ".join([word] * count)


@given(text=ANY_TEXT, max_tokens=st.integers(10, 60))
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_and_order_is_kept(text: str, max_tokens: int) -> None:
    assert solid("".join(passage.text for passage in cut(text, max_tokens=max_tokens))) == solid(text)


@given(text=ANY_TEXT, title=st.text(max_size=80), max_tokens=st.integers(10, 60), overlap=st.integers(0, 40))
@example(text="# A\n[a]: http://b" + "x" * 159 + "http://a.b/c?d=e&f ", title="0", max_tokens=10, overlap=9)
@settings(max_examples=150, deadline=None)
def test_the_budget_holds_for_what_is_embedded(text: str, title: str, max_tokens: int, overlap: int) -> None:
    chunking = ChunkingSettings(max_tokens=max_tokens, overlap_tokens=overlap)
    shown = embedding_title(title, tokenizer=TOKENIZER, settings=chunking)
    for passage in chunk(text, title=shown, tokenizer=TOKENIZER, settings=chunking):
        assert len(TOKENIZER.token_spans(passage.embedded_text(shown))) <= max_tokens - SPECIAL_TOKENS


@given(text=ANY_TEXT, max_tokens=st.integers(10, 60), overlap=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_passage_is_a_slice_of_the_text(text: str, max_tokens: int, overlap: int) -> None:
    for number, passage in enumerate(cut(text, max_tokens=max_tokens, overlap_tokens=overlap)):
        assert passage.number == number
        assert passage.text in text or "|" in text  # a table's header is repeated


def test_title_alone_makes_one_passage_and_nothing_makes_none() -> None:
    assert [passage.text for passage in cut(" \n", title="Annual report")] == ["Annual report"]
    assert cut(" \n\t", title=" ") == []


def test_plain_prose_is_one_passage() -> None:
    prose = "    an indented line, 2 * 3 * 4 and a_b_c\n# 1 is no heading of mine\n* nor a list\n"
    assert [passage.text for passage in cut(prose)] == [prose.rstrip()]


def test_headings_are_recorded_as_a_path() -> None:
    text = f"# Guide\n{words(200)}\n## Install `pip`\n{words(200)}\n### [Linux](x)\n{words(200)}\n## Use\n{words(200)}"
    assert [passage.headings for passage in cut(text)] == [
        ("Guide",),
        ("Guide", "Install pip"),
        ("Guide", "Install pip", "Linux"),
        ("Guide", "Use"),
    ]


def test_short_siblings_are_joined_under_the_path_they_share() -> None:
    text = "# Guide\n\n## A\n\none\n\n## B\n\ntwo\n\n## C\n\nthree"
    assert cut(text) == [Passage(0, text, ("Guide",), tokens=len(TOKENIZER.token_spans(text)))]


def test_a_heading_never_ends_a_passage() -> None:
    text = "\n\n".join(f"# Part {number}\n\n## Details\n\n{words(230)}" for number in range(4))
    passages = cut(text)
    assert [passage.headings for passage in passages] == [(f"Part {number}", "Details") for number in range(4)]
    assert all(passage.text.endswith("alpha") for passage in passages)


def test_code_stays_whole_where_it_fits() -> None:
    code = "```python\n" + "\n".join(f"call_{number}(argument)" for number in range(20)) + "\n```"
    passages = cut(f"{words(180)}\n\n{code}\n\n{words(180)}")
    assert [code in passage.text for passage in passages] == [False, True, False]


def test_long_code_is_cut_between_lines() -> None:
    lines = [f"    value_{number} = compute({number})" for number in range(100)]
    passages = cut("```\n" + "\n".join(lines) + "\n```")
    assert len(passages) > 2
    assert set("\n".join(passage.text for passage in passages).splitlines()) == {*lines, "```"}


def test_a_cut_table_repeats_its_header() -> None:
    header = "| name | value |\n|------|-------|"
    rows = [f"| row{number} | {number} |" for number in range(120)]
    passages = cut("\n".join([header, *rows]))
    assert len(passages) > 2
    assert all(passage.text.startswith(header) for passage in passages)
    assert [line for passage in passages for line in passage.text.splitlines()[2:]] == rows


def test_long_prose_is_cut_after_sentences() -> None:
    passages = cut(" ".join(f"Sentence number {number} says a little about dr. Who." for number in range(60)))
    assert len(passages) > 1
    assert all(passage.text.startswith("Sentence") and passage.text.endswith("Who.") for passage in passages)


def test_lists_are_cut_before_items() -> None:
    items = [f"- item {number} has {words(12)}" for number in range(40)]
    passages = cut("\n".join(items))
    assert [line for passage in passages for line in passage.text.splitlines()] == items


def test_overlap_repeats_whole_words_of_the_piece_before() -> None:
    text = " ".join(f"w{number}" for number in range(600))
    first, second, *_ = cut(text, overlap_tokens=20)
    shared = [word for word in second.text.split() if word in first.text.split()]
    assert second.text.startswith(" ".join(shared))
    assert 4 <= len(TOKENIZER.token_spans(" ".join(shared))) <= 20


def test_an_overlong_title_leaves_room_for_text() -> None:
    passages = cut(words(500), title=words(1000, "title"))
    assert len(passages) == 3
    assert solid("".join(passage.text for passage in passages)) == solid(words(500))


def test_a_paragraph_over_dashes_is_not_a_heading() -> None:
    (passage,) = cut(f"{words(60)}\n-----\nrest")
    assert passage.headings == ()


def test_the_models_limit_wins() -> None:
    class Short:
        max_tokens = 32
        token_spans = TOKENIZER.token_spans

    passages = chunk(words(100), title="", tokenizer=Short(), settings=ChunkingSettings(max_tokens=256))
    assert [passage.tokens for passage in passages] == [30, 30, 30, 10]


def test_a_budget_without_room_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AIDOCS_CHUNKING__MAX_TOKENS to 10 or more"):
        cut("text", max_tokens=9)


@pytest.mark.parametrize("unit", ["x", "word ", "A line.\n", "- item\n", "> q\n", "| a |\n", "漢", "# h\n\ntext\n\n"])
def test_time_is_linear(unit: str) -> None:
    def seconds(chars: int) -> float:
        text = unit * (chars // len(unit))
        # without the collector: the garbage of the tests before is not this text's
        return min(timeit.repeat(partial(cut, text), number=1, repeat=3, timer=time.process_time))

    assert seconds(80_000) < 12 * max(seconds(20_000), 0.01)  # four times the text; quadratic would be sixteen
