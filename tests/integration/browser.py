"""A real Chromium, and a page of it that keeps account of what it asked for and complained about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Route, sync_playwright

from tests.integration.running import poll
from tests.services import require

LAUNCH = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
TIMEOUT_MS = 10_000
QUERY = "remove whitespace from text"
RESULTS = f"/?collection=python&q={QUERY.replace(' ', '+')}"  # more than a page of hits


@contextmanager
def chromium() -> Iterator[Browser]:
    path = require("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LAUNCH)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One page with its own storage. foreign: addresses asked for outside the origin. complaints: console errors
    (violations of the content security policy among them) and uncaught exceptions."""

    page: Page
    origin: str
    requests: list[Request] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith(f"{self.origin}/"):
            self.foreign.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.origin + path)
        return self.page

    def open_without_collections(self, path: str) -> Route:
        """The page's question which collections there are, still unanswered."""
        held: list[Route] = []
        self.page.route("**/v1/collections", lambda route: held.append(route))  # noqa: PLW0108  # takes no builtin
        self.open(path)
        # Playwright routes while it waits
        poll(lambda: held or self.page.wait_for_timeout(10), timeout_s=TIMEOUT_MS / 1_000, pause_s=0)
        return held[0]

    def complained_of(self, expected: str) -> None:
        """Of nothing but this, which is forgotten now."""
        assert [text for text in self.complaints if expected not in text] == []
        self.complaints.clear()

    def searches(self) -> list[dict[str, Any]]:
        """The bodies of the searches so far, those for facets left out, oldest first."""
        bodies = [json.loads(r.post_data or "{}") for r in self.requests if r.url.endswith("/search")]
        return [body for body in bodies if "facets" not in body]


def hits(page: Page) -> Locator:
    return page.get_by_role("article")


def error_of(page: Page) -> Locator:
    return page.get_by_role("alert").filter(has=page.get_by_role("heading"))


# The worst contrast of text that is seen with its ground (WCAG 2.2, 1.4.3), and where; disabled controls are exempt.
WORST_CONTRAST = """() => {
  const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {rgb: [r, g, b], a}; };
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map(linear);
                         return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (node) => { for (; node; node = node.parentElement) {
                               const colour = rgb(getComputedStyle(node).backgroundColor);
                               if (colour.a === 1) return colour.rgb; }
                             return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = {ratio: 99, text: ""};
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest("button:disabled, .hidden, option")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color).rgb), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: text.data.trim()};
  }
  return worst;
}"""

# Controls without a name, ids used twice, references to no id.
FLAWS = """() => {
  const flaws = [];
  const named = (node) => node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim();
  for (const node of document.querySelectorAll("a, button, input, select, textarea, summary"))
    if (!named(node)) flaws.push("no name: " + node.outerHTML.slice(0, 120));
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  flaws.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => "twice: " + id));
  for (const name of ["aria-controls", "aria-labelledby", "aria-describedby"])
    for (const node of document.querySelectorAll(`[${name}]`))
      if (!document.getElementById(node.getAttribute(name))) flaws.push(name + " points nowhere: " + node.outerHTML);
  if (!document.documentElement.lang) flaws.push("no language");
  if (document.querySelectorAll("main").length !== 1) flaws.push("not one main");
  return flaws;
}"""

# A picture's mean luminance (0 to 1) and its number of colours.
PICTURE = """async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const {data} = context.getImageData(0, 0, image.width, image.height);
  const colours = new Set();
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) {
    colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
    sum += 0.2126 * data[at] + 0.7152 * data[at + 1] + 0.0722 * data[at + 2];
  }
  return {mean: sum / (data.length / 4) / 255, colours: colours.size};
}"""
