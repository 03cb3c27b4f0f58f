"""The search page as it is seen: names, contrast, width, light and dark."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import expect

from tests.integration.browser import FLAWS, PICTURE, RESULTS, WORST_CONTRAST, Visit, hits


@pytest.mark.parametrize(("scheme", "darkest", "lightest"), [("light", 0.8, 1.0), ("dark", 0.0, 0.25)])
@pytest.mark.parametrize("path", ["/?collection=python", RESULTS, "/?collection=python&q=xylophone&mode=sparse"])
def test_what_is_seen(visit: Visit, path: str, scheme: str, darkest: float, lightest: float) -> None:
    page = visit.page
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # a Literal
    visit.open(path)
    expect(hits(page).or_(page.locator("#notice")).locator("visible=true").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.evaluate(FLAWS) == []
    worst = page.evaluate(WORST_CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    picture = page.screenshot()
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    blank = page.context.new_page()
    seen = blank.evaluate(PICTURE, base64.b64encode(picture).decode())
    assert darkest <= seen["mean"] <= lightest, seen
    assert seen["colours"] > 50, seen
