from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.markdown_blocks import Block, BlockKind, parse_blocks, plain_text

LINES = [
    "# A\n",
    "text\n",
    "\n",
    "- item\n",
    "    deep\n",
    "```\n",
    "~~~~\n",
    "| a | b |\n",
    "|---|---|\n",
    "> q\n",
    "===\n",
    "<!--\n",
]
TEXT = st.lists(st.sampled_from([*LINES, "\r\n", "\r", "x" * 30, "[a]: b\n"]), max_size=40).map("".join)
LIST_AND_TABLE = "- a\n- b\n  - c\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n"
DOCUMENT = f"# Head\n\nA paragraph\nof two lines.\n\n{LIST_AND_TABLE}```py\ncode\n\nmore\n```\n\n"


def kinds(text: str, window_chars: int = 1000) -> list[tuple[BlockKind, str]]:
    return [(block.kind, text[block.start : block.end]) for block in parse_blocks(text, window_chars)]


@given(text=TEXT | st.text(max_size=200), window_chars=st.integers(1, 200))
def test_blocks_are_in_order_and_leave_out_only_white_space(text: str, window_chars: int) -> None:
    at = 0
    for block in parse_blocks(text, window_chars):
        assert at <= block.start < block.end
        assert not text[at : block.start].strip()
        at = block.end
    assert not text[at:].strip()


@pytest.mark.parametrize("window_chars", [100, 150, 333, 1000])
def test_windows_do_not_show(window_chars: int) -> None:
    text = DOCUMENT * 20
    assert parse_blocks(text, window_chars) == parse_blocks(text, len(text))


def test_code_and_tables_longer_than_a_window_stay_whole() -> None:
    fence = "```\n" + "# no heading\n\n" * 50 + "```\n"
    assert kinds(f"{fence}# Head\n", 100) == [(BlockKind.CODE, fence), (BlockKind.HEADING, "# Head\n")]
    table = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 50
    (found, after) = parse_blocks(f"{table}\nText\n", 100)
    assert (found.kind, found.header_end, after.kind) == (BlockKind.TABLE, 20, BlockKind.PROSE)
    assert kinds("```\n" + "open\n" * 50, 100) == [(BlockKind.CODE, "```\n" + "open\n" * 50)]


def test_headings() -> None:
    text = "# One [`two`](x) *three*\n\nUnder\n-----\n"
    assert parse_blocks(text) == [
        Block(BlockKind.HEADING, 0, 25, level=1, heading="One two three"),
        Block(BlockKind.HEADING, 26, 38, level=2, heading="Under"),
    ]


@pytest.mark.parametrize("text", ["#hashtag", "# " + "x" * 300, "a long\n" * 50 + "---", "[a]: http://b", "1 | 2"])
def test_prose_that_looks_like_markup(text: str) -> None:
    assert kinds(text) == [(BlockKind.PROSE, text)]


def test_cuts_of_a_list_are_its_items() -> None:
    (block,) = parse_blocks("- a\n- b\n  - c\n\n- d\n")
    assert block.cuts == (4, 8, 15)


def test_plain_text_of_a_heading() -> None:
    assert plain_text("![logo](x.png) **The** <b>end</b> of\\_it  &amp; more") == "logo The <b>end</b> of_it & more"
