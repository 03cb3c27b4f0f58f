"""What the tests of the whole app share."""

from __future__ import annotations

import inspect
import json
import shutil
import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from playwright.sync_api import Browser

from tests.integration.browser import Visit, chromium
from tests.integration.live_app import live_app
from tests.integration.running import Run, run

# Real text that every machine has: the standard library's own documentation.
MODULES: tuple[ModuleType, ...] = (json, textwrap, shutil, statistics)
EVIL = {
    "id": "evil/<b>id</b>",
    "title": "<img src=x onerror=document.title='owned'> zebra",
    "text": "<script>document.title='owned'</script> A zebra crossing. <img src=x onerror=document.title='owned'>",
    "url": "javascript:document.title='owned'",
    "metadata": {"<i>key</i>": "<img src=x onerror=document.title='owned'>", "module": '"><script>1</script>'},
}


def python_documents() -> Iterator[dict[str, object]]:
    """A document for each public function of some modules of the standard library."""
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            text = inspect.getdoc(function)
            if text and function.__module__ == module.__name__ and not name.startswith("_"):
                yield {
                    "id": f"{module.__name__}.{name}",
                    "title": f"{module.__name__}.{name}",
                    "text": text,
                    "url": f"https://docs.python.org/3/library/{module.__name__}.html",
                    "metadata": {
                        "module": module.__name__,
                        "lines": text.count("\n") + 1,
                        "short": len(text) < 500,
                        "share": 0.5,
                    },
                }


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, model_data_dir: Path) -> Iterator[Run]:
    """One run of the whole service in its own processes, for all tests of this folder. It ends with them: with metrics
    every second Ray's processes take a fifth of a CPU even if nobody asks for anything."""
    with run(tmp_path_factory.mktemp("service"), model_data_dir) as running:
        yield running


@pytest.fixture(scope="package")
def origin(tmp_path_factory: pytest.TempPathFactory, model_data_dir: Path) -> Iterator[str]:
    """The running app with two collections: `python` (some dozen documents) and `traps`."""
    with live_app(tmp_path_factory.mktemp("live-app"), model_data_dir) as origin:
        here = {"id": "home", "title": "The way home", "text": "A link to this app.", "url": f"{origin}/?q=home"}
        with httpx.Client(base_url=origin, timeout=60, trust_env=False) as api:
            for name, documents in (("python", list(python_documents())), ("traps", [EVIL, here])):
                answer = api.post(f"/v1/collections/{name}/documents", json={"documents": documents})
                assert answer.status_code == 200, answer.text
                assert answer.json()["indexed"] == len(documents), answer.text
        yield origin


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with the module: playwright's event loop would be in the way of other modules' async tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, origin: str) -> Iterator[Visit]:
    """At the end nothing was loaded from elsewhere, and nothing complained that the test did not take note of."""
    context = browser.new_context(viewport={"width": 1200, "height": 850}, color_scheme="light")
    visit = Visit(context.new_page(), origin)
    yield visit
    context.close()
    assert visit.foreign == []
    assert visit.complaints == []
