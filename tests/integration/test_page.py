"""The search page in a real browser against the real app: what people do with it."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from typing import Any

import httpx
from playwright.sync_api import Error, Page, Route, expect

from tests.integration.browser import QUERY, RESULTS, Visit, hits


def shown(page: Page) -> str:
    """The address without the origin."""
    return str(page.evaluate("location.pathname + location.search"))


def body_of(route: Route) -> dict[str, Any]:
    return dict(json.loads(route.request.post_data or "{}"))


def test_typing_brings_hits_with_marked_words(visit: Visit) -> None:
    page = visit.open("/?collection=python")
    expect(page.get_by_text("documents,")).to_contain_text("python")
    page.get_by_role("searchbox").press_sequentially("dedenting lines", delay=20)
    first = hits(page).first
    expect(first).to_contain_text("textwrap.dedent")
    marks = [mark.lower() for mark in first.locator("mark").all_inner_texts()]
    assert {"dedent", "lines"} <= set(marks)  # the stem of the one, the other as it is
    expect(first.locator(".score-value")).to_have_text(re.compile(r"\d"))
    expect(first.locator(".document-id")).to_have_text("textwrap.dedent")
    status = page.get_by_role("status")
    for fact in (r"Hits 1–\d", r"\d ms search", r"\d+ ms round trip", "cache miss", r"MiniLM.*-[0-9a-f]{8}"):
        expect(status).to_contain_text(re.compile(fact))
    assert visit.searches()[-1] == {"query": "dedenting lines", "mode": "hybrid", "limit": 10}


def test_an_older_answer_never_replaces_a_newer_one(visit: Visit) -> None:
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if body_of(route).get("query") == "copy a file":
            held.append(route)
        else:
            route.continue_()

    visit.page.route("**/search", hold_first)
    page = visit.open("/?collection=python")
    query = page.get_by_role("searchbox")
    query.fill("copy a file")
    expect(page.get_by_label("Results")).to_have_attribute("aria-busy", "true")
    query.fill("standard deviation")
    expect(hits(page).first).to_contain_text("statistics.")
    with suppress(Error):  # the page gave it up, as it should
        held[0].continue_()
    page.wait_for_load_state("networkidle")
    expect(hits(page).first).to_contain_text("statistics.")
    assert [body["query"] for body in visit.searches()] == ["copy a file", "standard deviation"]


def test_what_is_typed_while_the_page_starts_is_searched(visit: Visit) -> None:
    waits, page = visit.open_without_collections("/"), visit.page
    page.get_by_role("searchbox").fill("dedent")
    page.get_by_role("searchbox").press("Enter")
    waits.continue_()
    expect(hits(page).first).to_contain_text("textwrap.dedent")
    expect(page.get_by_role("searchbox")).to_have_value("dedent")


def test_what_was_searched_while_the_page_started_is_not_sent_again(visit: Visit) -> None:
    waits, page = visit.open_without_collections("/?collection=traps"), visit.page
    page.get_by_role("searchbox").fill("way home")
    expect(hits(page).first).to_contain_text("The way home")
    waits.continue_()
    expect(page.get_by_label("Collection")).to_have_value("traps")
    page.wait_for_load_state("networkidle")
    assert [body["query"] for body in visit.searches()] == ["way home"]


def test_the_mode_is_asked_for_and_kept_in_the_address(visit: Visit) -> None:
    page = visit.open(RESULTS)
    expect(hits(page).first).to_be_visible()
    for name in ("Dense", "Sparse", "Hybrid"):
        with page.expect_response("**/search"):
            page.get_by_text(name, exact=True).click()
        assert visit.searches()[-1]["mode"] == name.lower()
        assert ("mode" in shown(page)) == (name != "Hybrid")


def test_everything_by_keyboard(visit: Visit) -> None:
    page = visit.open("/?collection=python")
    keys = page.keyboard
    expect(page.get_by_role("searchbox")).to_be_focused()
    keys.press("Tab")
    expect(page.get_by_role("searchbox")).not_to_be_focused()
    keys.press("/")
    keys.type(QUERY)
    keys.press("Enter")
    expect(hits(page)).to_have_count(10)
    keys.press("ArrowDown")
    expect(hits(page).nth(0)).to_be_focused()
    keys.press("j")
    keys.press("ArrowDown")
    keys.press("k")
    expect(hits(page).nth(1)).to_be_focused()
    for key, mode in (("2", "dense"), ("3", "sparse"), ("1", "hybrid")):
        with page.expect_response("**/search"):
            keys.press(key)
        assert visit.searches()[-1]["mode"] == mode
    expect(hits(page)).to_have_count(10)
    keys.press("n")
    expect(page.get_by_text("Page 2")).to_be_visible()
    expect(hits(page).first).to_be_focused()
    keys.press("p")
    expect(page.get_by_text("Page 1")).to_be_visible()
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    keys.press("c")
    expect(page.get_by_role("dialog", name="This search as curl")).to_be_visible()
    keys.press("Escape")
    keys.press("Escape")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.get_by_role("searchbox")).to_have_value(QUERY)
    keys.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(hits(page)).to_have_count(0)


def test_enter_opens_a_hit_and_back_brings_the_hits_again(visit: Visit) -> None:
    page = visit.open("/?collection=traps&q=way+home")
    expect(hits(page).first).to_contain_text("The way home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=home")
    page.go_back()
    expect(page).to_have_title("way home · ai-docs")
    expect(hits(page).first).to_contain_text("The way home")


def test_a_long_passage_is_cut_and_can_be_seen_whole(visit: Visit) -> None:
    page = visit.open("/?collection=python&q=which+errors+does+rmtree+ignore&mode=sparse")
    hit = hits(page).filter(has_text="shutil.rmtree").first
    text = hit.locator(".text")
    expect(text).to_contain_text("…")
    short = len(text.inner_text())
    hit.focus()
    page.keyboard.press("x")
    expect(hit.get_by_role("button", name="Less")).to_have_attribute("aria-expanded", "true")
    assert len(text.inner_text()) > short


def test_the_filter_is_built_from_the_fields_of_the_hits(visit: Visit) -> None:
    page = visit.open(RESULTS)
    panel = page.get_by_role("complementary", name="Filter")
    panel.get_by_role("region", name="module").get_by_role("button", name="shutil").click()
    condition = {"key": "metadata.module", "match": {"value": "shutil"}}
    expect(page.get_by_role("button", name="Remove filter module: shutil")).to_be_visible()
    expect(hits(page).filter(has_text="moduleshutil")).to_have_count(10)
    assert visit.searches()[-1]["filter"] == {"must": [condition]}
    panel.get_by_role("region", name="short").get_by_role("button", name="false").click()
    expect(page.get_by_role("button", name="Remove filter short: false")).to_be_visible()
    expect(hits(page).filter(has_text="shorttrue")).to_have_count(0)
    both = [condition, {"key": "metadata.short", "match": {"value": False}}]  # a boolean stays one
    assert visit.searches()[-1]["filter"] == {"must": both}
    assert json.loads(page.evaluate("new URLSearchParams(location.search).get('filter')")) == {"must": both}
    for label in ("short: false", "module: shutil"):
        page.get_by_role("button", name=f"Remove filter {label}").click()
    expect(hits(page)).to_have_count(10)
    assert "filter" not in visit.searches()[-1]


def test_a_filter_as_json_is_applied_or_refused_with_the_reason(visit: Visit) -> None:
    page = visit.open(RESULTS)
    expect(hits(page)).to_have_count(10)
    page.get_by_text("Filter as JSON").click()
    box = page.get_by_label("Qdrant filter")
    asked = len(visit.searches())
    for text, reason in (
        ('{"must": [', "This is not JSON"),
        ("[1]", "A filter is an object"),
        ('{"musst": []}', '"musst" is not part of a filter'),
        ('{"must": 5}', '"must" must be a list of conditions'),
    ):
        box.fill(text)
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#filter-error")).to_contain_text(reason)
        expect(box).to_have_value(text)
    assert len(visit.searches()) == asked
    box.fill('{"must": [{"key": "lines", "range": {"gte": 20}}]}')
    box.press("Control+Enter")
    expect(page.locator("#filter-error")).to_have_text("")
    expect(page.locator("#active-filter")).to_contain_text('"gte":20')
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")  # until then the former hits are there
    lines = hits(page).locator("button.chip", has_text=re.compile("^lines")).all_inner_texts()
    assert lines
    assert all(int(re.sub(r"\D", "", chip)) >= 20 for chip in lines)


def test_a_link_restores_everything_and_back_goes_back(visit: Visit) -> None:
    condition = '{"must":[{"key":"metadata.short","match":{"value":true}}]}'
    page = visit.open(f"/?collection=python&q=text&mode=dense&page=2&filter={condition}")
    expect(page.get_by_text("Page 2")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value("text")
    expect(page.get_by_role("radio", name="Dense")).to_be_checked()
    expect(page.get_by_label("Collection")).to_have_value("python")
    expect(page.locator("#active-filter")).to_contain_text("short: true")
    assert visit.searches() == [
        {"query": "text", "mode": "dense", "limit": 10, "offset": 10, "filter": json.loads(condition)}
    ]
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_text("Page 1")).to_be_visible()
    page.get_by_role("searchbox").fill("text file")
    page.get_by_role("searchbox").press("Enter")
    expect(page).to_have_title("text file · ai-docs")
    page.go_back()
    expect(page).to_have_title("text · ai-docs")
    expect(page.get_by_text("Page 1")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("Page 2")).to_be_visible()
    page.go_forward()
    expect(page.get_by_text("Page 1")).to_be_visible()


def test_the_curl_command_asks_the_same(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visit.origin)
    visit.open("/?collection=python&q=it's+a+%22file%22+%24HOME")
    expect(hits(page).first).to_be_visible()
    page.get_by_role("button", name="Show as curl").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    words = shlex.split(page.evaluate("navigator.clipboard.readText()").replace("\\\n", " "))
    assert words[:2] == ["curl", "-sS"]
    body = json.loads(words[words.index("-d") + 1])
    assert body == visit.searches()[-1]
    answer = httpx.post(words[2], json=body, timeout=30, trust_env=False)
    titles = [title or "" for title in hits(page).get_by_role("heading").all_inner_texts()]
    assert [hit["title"] for hit in answer.json()["hits"]] == titles


def test_the_theme_and_the_collection_are_remembered(visit: Visit) -> None:
    page = visit.open("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.get_by_label("Collection").select_option("traps")
    visit.open("/")
    expect(page.get_by_role("button", name="Dark theme")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(ground) == dark
    expect(page.get_by_label("Collection")).to_have_value("traps")
