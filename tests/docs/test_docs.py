"""The documentation: links lead somewhere, generated pages are current, settings and options that it names exist.
That its commands run is in tests/integration/test_documentation.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate.pages import PAGES as GENERATED
from docs.generate.pages import REFERENCE
from docs.generate.settings import PROFILE, descriptions, sections, setting_rows
from serve_app.settings import PREFIX, SearchProfile, Settings
from serve_app.settings.environment import setting_fields
from serve_app.telemetry.catalogue import CATALOGUE
from tests.docs.pages import PAGES, README, ROOT, anchors, links

NAMED = re.compile(r"AIDOCS_[A-Z0-9_]+[A-Z0-9]")
METRIC = re.compile(r"ray_aidocs_[a-z0-9_]+")


def of_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if fragment:
            assert fragment in anchors(target), link


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text() == GENERATED[name](), "run: make docs"


def test_every_setting_is_described() -> None:
    for model in [Settings, SearchProfile, *(section for _, section in sections(Settings, ""))]:
        missing = [row[0] for row in setting_rows(model, f"{model.__name__} ") if not row[-1]]
        assert missing == [], "add a string below the field"
        assert model is Settings or model.__doc__
    assert "Port that the API listens on." in descriptions(type(Settings().serving))["port"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=of_page)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    known = {name for name, _ in setting_fields(Settings, PREFIX)}
    known |= {name for name, _ in setting_fields(SearchProfile, PREFIX + PROFILE.replace("<NAME>", "NAME"))}
    for name in NAMED.findall(page.read_text().replace("<NAME>", "NAME")):
        whole = re.sub(r"PROFILES__[A-Z]+__", "PROFILES__NAME__", name)
        assert whole in known or any(each.startswith(f"{whole}__") for each in known), name


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=of_page)
def test_metrics_that_a_page_names_exist(page: Path) -> None:
    known = {metric.exported_name for metric in CATALOGUE}
    for name in METRIC.findall(page.read_text()):
        assert re.sub("_(bucket|sum|count)$", "", name) in known, name


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_images_are_small() -> None:
    """A clone carries every version of them."""
    sizes = {image.name: image.stat().st_size for image in (ROOT / "docs" / "images").iterdir()}
    assert {name: size for name, size in sizes.items() if size > 200_000} == {}


def test_every_page_is_in_the_list_of_pages() -> None:
    """docs/README.md, or decisions/README.md for the records."""
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            index = page.parent / "README.md" if page.parent.name == "decisions" else ROOT / "docs" / "README.md"
            listed = {(index.parent / link).resolve() for link in links(index)}
            assert page in listed | {index}, f"{of_page(page)} is not in {of_page(index)}"


def test_the_changelog_has_its_form() -> None:
    """Keep a Changelog: a section for each kind of change, one line an entry."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    start = lines.index("## [Unreleased]")
    kinds = [line for line in lines[start:] if line.startswith("### ")]
    assert kinds == [f"### {kind}" for kind in ("Added", "Changed", "Removed", "Fixed")]
    assert [line for line in lines[start + 1 :] if line and not line.startswith(("- ", "### "))] == []
