"""Documents from a folder of installed packages that the tests create."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import pytest

from serve_app.documents import python_packages
from serve_app.documents.indexing import cut
from serve_app.documents.python_packages import first_blocks, plain_markdown, python_package_documents
from serve_app.documents.readers.result import ReadFailure
from serve_app.ports import Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.types import Document
from serve_app.validation import validate

Install = Callable[..., None]

MODULE = '''"""What the module is for.

Notes
-----
A note.
"""
class Client(Base):
    """Talks to the server."""

    async def get(self, url: str, *, timeout_s: float = 5.0) -> bytes:
        """Fetch `url`."""
    def _hidden(self):
        """Nobody sees this."""
def helper():
    return "no docstring"
def shown(a, b=1):
    "One line.\\d"
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    monkeypatch.setattr(python_packages, "distributions", lambda: distributions(path=[str(tmp_path)]))

    def install_one(name: str, metadata: str, readme: str = "", **modules: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}\n\n{readme}")
        record: list[str] = []
        for module, source in modules.items():
            path = tmp_path / f"{module.replace('__init__', '.__init__').replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
            record.append(f"{path.relative_to(tmp_path).as_posix()},,\n")
        (info / "RECORD").write_text("".join(record))

    return install_one


def documents() -> dict[str, Document]:
    found = {document.id: document for document in python_package_documents() if isinstance(document, Document)}
    for document in found.values():
        validate(document)
    return found


def test_a_readme_in_markdown(install: Install) -> None:
    about = "Description-Content-Type: text/markdown\nLicense: MIT\nProject-URL: Homepage, https://home.example"
    install("My_Package.x", about, "# Mine\n\nIt [works](https://x.y/z).")
    (document,) = documents().values()
    metadata = {"package": "My_Package.x", "version": "1.0", "kind": "readme", "license": "MIT"}
    text = "# Mine\n\nIt works."
    assert document == Document("my-package-x/README", text, "My_Package.x", "https://home.example", metadata)


def test_a_readme_in_rst_is_the_default_and_none_is_no_document(install: Install) -> None:
    install("a", "", "Title\n=====\n\nBody with ``code``.\n")
    install("b", "", "UNKNOWN")
    install("c", "")
    assert {id: one.text for id, one in documents().items()} == {"a/README": "# Title\n\nBody with code."}


def test_docstrings_of_public_modules(install: Install) -> None:
    broken = "this is not python"
    modules = {"pkg__init__": MODULE, "pkg.sub": '"""Sub."""', "pkg._private": MODULE, "pkg.a.deep": MODULE}
    install("pkg", "", **modules, **{"pkg.tests": MODULE, "pkg.broken": broken})
    found = documents()
    assert list(found) == ["pkg/pkg", "pkg/pkg.sub"]
    assert found["pkg/pkg"].text.split("\n\n") == [
        "# pkg",
        "What the module is for.",
        "Notes:",
        "A note.",
        "## `Client`",
        "```python\nclass Client(Base)\n```",
        "Talks to the server.",
        "### `Client.get`",
        "```python\nasync def get(self, url: str, *, timeout_s: float=5.0) -> bytes\n```",
        "Fetch `url`.",
        "## `shown`",
        "```python\ndef shown(a, b=1)\n```",
        "One line.\\d",
    ]
    assert found["pkg/pkg"].title == "pkg"
    assert found["pkg/pkg"].metadata == {"package": "pkg", "version": "1.0", "kind": "module"}


def test_readmes_come_first_and_both_are_bounded(install: Install) -> None:
    paragraph = "word " * 200
    markdown = "Description-Content-Type: text/markdown"
    function = f'def one():\n    """{paragraph}"""\n'
    for name in ("a", "b"):
        install(name, markdown, f"{paragraph}\n\n" * 30, **{f"{name}__init__": function * 30, f"{name}.z": function})
    found = documents()
    assert list(found) == ["a/README", "b/README", "a/a", "b/b"]
    for document in found.values():
        assert 3_000 < len(document.text) <= python_packages.MODULE_CHARS + 2_000
        assert document.metadata["truncated"] is True


@pytest.mark.parametrize(("file", "left"), [("METADATA", []), ("RECORD", ["a/README"])])
def test_a_package_that_is_not_utf8_is_a_failure_of_its_own(
    file: str, left: list[str], install: Install, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        install(name, "", "Body", **{f"{name}__init__": MODULE})
    broken = tmp_path / "a-1.0.dist-info"
    with (broken / file).open("ab") as written:
        written.write("café".encode("latin-1"))
    *found, failure = sorted(python_package_documents(), key=lambda one: isinstance(one, ReadFailure))
    assert [one.id for one in found if isinstance(one, Document)] == [*left, "b/README", "b/b"]
    assert isinstance(failure, ReadFailure)
    assert failure.source == str(broken)
    assert "cannot be read: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9" in failure.error


def test_what_was_installed_can_be_indexed(install: Install, tokenizer: Tokenizer) -> None:
    install("pkg", "", "Title\n=====\n\nBody", pkg__init__=MODULE)
    for document in documents().values():
        assert cut(document, tokenizer=tokenizer, chunking=ChunkingSettings()).passages


def test_noise_goes_and_code_stays() -> None:
    text = (
        '<p align="center"><img src="x"></p>\n\n[![CI](https://a.b/c.svg)](https://a.b) [![x][y]][z]\n\n<!-- no -->\n\n'
        'See [the docs](http://a/b_(c) "T") and ![a chart](x.png), 1 < 2 > 1.\n\n```html\n<p>[a](b)</p>\n```'
    )
    assert plain_markdown(text) == "See the docs and a chart, 1 < 2 > 1.\n\n```html\n<p>[a](b)</p>\n```"


def test_blocks_are_taken_whole() -> None:
    assert first_blocks("one\n\ntwo\n\nthree", 9) == "one\n\ntwo"
    assert first_blocks("a long one\n\ntwo", 3) == "a long one"
