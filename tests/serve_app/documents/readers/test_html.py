from __future__ import annotations

from serve_app.documents.readers.html import MAX_OPEN_TAGS
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


def test_comparisons_in_a_script_are_no_tags(read: Read) -> None:
    assert only(read("a.html", "<script>" + "a<b;" * (MAX_OPEN_TAGS + 1) + "</script>text")).text == "text"


def test_a_page_without_text_is_a_failure(read: Read) -> None:
    document = only(read("a.html", "<script>x</script>"))  # its name is all there is to find
    assert (document.title, document.text) == ("a", "")
