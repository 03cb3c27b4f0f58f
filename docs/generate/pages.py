"""Which pages are generated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generate.http import http_page
from docs.generate.metrics import metrics_page
from docs.generate.settings import settings_page

REFERENCE = Path(__file__).parents[1] / "reference"
PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "metrics.md": metrics_page, "http.md": http_page}
