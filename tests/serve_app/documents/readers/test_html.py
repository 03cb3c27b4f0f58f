from __future__ import annotations

import time

import pytest

from serve_app.documents.readers.html import MAX_OPEN_TAGS, require_shallow
from serve_app.errors import UnreadableDocument
from tests.serve_app.documents.readers.conftest import Read, failures, only


def test_structure_becomes_markdown(read: Read) -> None:
    page = """<html><head><title> A
      page </title><style>p {}</style></head><body><nav>menu</nav><script>if (a<b) {}</script>
      <h2>Head <em>one</em></h2><p>See <a href="x">this</a>,<br>and<!-- not --> that. <img src="x" alt="A chart"></p>
      loose <b>text</b>
      <ul><li>a<li>b<ul><li>inner</ul></ul><ol><li>x<li>y</ol><pre><code>def f():
    return 1</code></pre><table><tr><th>N<th>V</tr><tr><td>a|b<td>1</tr></table><noscript>no</noscript>"""
    document = only(read("a.html", page))
    assert document.title == "A page"
    assert document.text.split("\n\n") == [
        "## Head one",
        "See this, and that. A chart",
        "loose text",
        "- a\n- b",
        "  - inner",
        "1. x\n2. y",
        "```\ndef f():\n    return 1\n```",
        "| N | V |\n| --- | --- |\n| a\\|b | 1 |",
    ]


def test_a_layout_table_is_read_through(read: Read) -> None:
    page = "<table><tr><td><h1>Title</h1></td><td><table><tr><td>k<td>v</tr><tr><td>a<td>b</table></td></tr></table>"
    assert only(read("a.htm", page)).text == "# Title\n\n| k | v |\n| --- | --- |\n| a | b |"
    assert only(read("a.htm", page)).title == "Title"


def test_deep_nesting_keeps_the_text_and_too_deep_is_refused(read: Read) -> None:
    assert only(read("a.html", "<div>" * 1000 + "deep")).text == "deep"
    assert only(read("a.html", "<b>" * 1000 + "deep")).text == "deep"
    ((_, error),) = failures(read("a.html", "<div>" * (MAX_OPEN_TAGS + 1) + "x"))
    assert "tags open at once" in error


MANY = MAX_OPEN_TAGS + 1


@pytest.mark.parametrize(
    "page",
    [
        "<script>" + "a<b;" * MANY + "</script>text",
        '<script src="x">' + "if (a<b && c='>') {}" * MANY + "</SCRIPT >text",
        "<style>" + "<b>" * MANY + "</style>text",
        "<svg>" + '<circle cx="1"/><g><path d="M0 0"\n/></g>' * MANY + "</svg>text",
        "<svg/>" * MANY + "text",
        "<!-- " + "<div>" * MANY + " -->text",
        "<!-- > <div> -->" * MANY + "<!--><p>text<!-- -->",
        '<b title="a > b / <i>">' * 2 + "<b title='\"'></b>" * MANY + "text",
        "<table><tbody><tr><td></table>" * MANY + "text",
    ],
    ids=["script", "comparisons", "style", "shapes", "drawings", "comment", "comments", "attributes", "rows"],
)
def test_what_opens_nothing_is_not_counted(page: str, read: Read) -> None:
    assert only(read("a.html", page)).text == "text"


@pytest.mark.parametrize(
    "page",
    [
        "<div/>" * MANY,  # as browsers, the parser takes them for open
        "<svg><div/></svg>" * MANY,
        "<b title='>'>" * MANY,
        "<svg>" * MANY,
        "<!-- --!><div>" * MANY,
        "<!--><div>" * MANY,
        "<script>a<b</script><div>" * MANY,
        "<B\n>" * MANY,
    ],
)
def test_what_opens_a_tag_is_counted(page: str) -> None:
    with pytest.raises(UnreadableDocument, match="tags open at once"):
        require_shallow(page)


@pytest.mark.parametrize(
    "part", ["<a ", '<a b="', "<!--", "<!", "<script>", "<script", "<a =", "</a ", "</a b='\">", "<"]
)
def test_the_count_takes_linear_time(part: str) -> None:
    """Twenty times the source: quadratic is four hundred times as long."""
    require_shallow(part * 1_000)  # warm
    started_s = time.perf_counter()
    require_shallow(part * 10_000)
    once_s = time.perf_counter() - started_s
    require_shallow(part * 200_000)
    assert time.perf_counter() - started_s - once_s < 100 * once_s + 0.5


@pytest.mark.parametrize(
    "page", ["<script>x</script>", "<title>Acme</title><div id=root></div><script src=a.js></script>"]
)
def test_a_page_that_scripts_fill_is_a_failure(read: Read, page: str) -> None:
    ((_, error),) = failures(read("a.html", page))
    assert "scripts create its content" in error


def test_a_page_without_text_is_found_by_its_title(read: Read) -> None:
    document = only(read("a.html", "<title>Opening hours</title>"))
    assert (document.title, document.text) == ("Opening hours", "")


@pytest.mark.parametrize(
    "head",
    [
        b'<meta charset="iso-8859-9">',
        b"<META content='text/html; charset=iso-8859-9' http-equiv=Content-Type>",
        b'<?xml version="1.0" encoding="ISO-8859-9"?><html>',
        b"<meta name=a><meta charset=latin5>",
    ],
)
def test_the_declared_encoding_is_used(read: Read, head: bytes) -> None:
    text = "Şişli ağır yağış"
    assert only(read("a.html", head + b"<p>" + text.encode("cp1254"))).text == text


def test_words_of_two_blocks_stay_two(read: Read) -> None:
    page = "<table><tr><th>Port<th>Rule<tr><td>Oslo<td><p>No wake</p><p>Moor</p>now</table><h2><div>Part</div>Two</h2>"
    assert (
        only(read("a.html", page)).text == "| Port | Rule |\n| --- | --- |\n| Oslo | No wake Moor now |\n\n## Part Two"
    )


def test_cells_that_span_keep_their_columns(read: Read) -> None:
    page = (
        "<table><tr><th>Port<th>Year<th>Note<tr><td rowspan=2>Riga<td>2026<td rowspan=9>open<tr><td>2027"
        "<tr><td colspan=2>all<tr><td>x<td colspan=99999999>y</table>"
    )
    lines = only(read("a.html", page)).text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")][:3] for line in lines[:1] + lines[2:]]
    assert cells == [
        ["Port", "Year", "Note"],
        ["Riga", "2026", "open"],
        ["Riga", "2027", "open"],
        ["all", "", "open"],
        ["x", "y", ""],
    ]
