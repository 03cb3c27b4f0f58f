"""The documentation of every Python package on this machine: real text that needs no download.

Limits keep a demo of a big environment within minutes. Each distribution gives the first README_CHARS of its README.
It also gives the docstrings of its top-level packages and then of their public direct modules, each sorted by name, up
to MODULE_CHARS. A document that was cut has `truncated` in its metadata. Docstrings are read with `ast`; nothing is
imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from serve_app.documents.docstrings import module_entries
from serve_app.documents.encoding import clean
from serve_app.documents.markdown_blocks import BlockKind, parse_blocks
from serve_app.documents.readers.markdown_text import join_blocks
from serve_app.documents.readers.result import ReadFailure, ReadResult, failure_of
from serve_app.documents.readers.rst import rst_to_markdown
from serve_app.types import Document, JsonValue

README_CHARS = 6_000
MODULE_CHARS = 12_000
SOURCE_SHARE = 4  # characters of README source read for each character kept: markup is removed from them
MAX_LICENSE_CHARS = 64  # some distributions put the whole licence text in the field
NOT_DOCUMENTATION = frozenset({"test", "tests", "testing", "conftest", "setup"})
HOME_LABELS = ("homepage", "documentation", "source", "source code", "repository", "github")

BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)|\[!\[[^\]]*\]\[[^\]]*\]\]\[[^\]]*\]")
IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
LINK = re.compile(r"\[([^\[\]]*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)")
TAG_OR_COMMENT = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution. name: normalised (PEP 503). about: its metadata, parsed once."""

    name: str
    distribution: Distribution
    about: Message

    def metadata(self, kind: str, *, truncated: bool) -> dict[str, JsonValue]:
        metadata: dict[str, JsonValue] = {
            "package": self.about["Name"],
            "version": self.about["Version"],
            "kind": kind,
        }
        licence = self.about.get("License-Expression") or self.about.get("License") or ""
        if 0 < len(licence) <= MAX_LICENSE_CHARS:
            metadata["license"] = clean(licence)
        if truncated:
            metadata["truncated"] = True
        return metadata

    def url(self) -> str:
        """The home page, else the documentation, source or repository; "" if there is none."""
        entries = (entry.partition(",") for entry in self.about.get_all("Project-URL") or ())
        links = {label.strip().lower(): url.strip() for label, _, url in entries}
        urls = [self.about.get("Home-page", ""), *(links.get(label, "") for label in HOME_LABELS)]
        return next((url for url in urls if url.startswith(("http://", "https://"))), "")


def python_package_documents(
    readme_chars: int = README_CHARS, module_chars: int = MODULE_CHARS
) -> Iterator[ReadResult]:
    """READMEs of all distributions by name, then their modules. Ids are `distribution/README` and
    `distribution/dotted.module`: the same on every machine with the same packages. A distribution whose metadata or
    list of files cannot be read yields a failure."""
    packages, failures = installed()
    for package in packages:
        yield from _readme(package, readme_chars)
    for package in packages:
        yield from _modules(package, module_chars)
    yield from failures


def installed() -> tuple[list[Package], list[ReadFailure]]:
    """The packages by name, and a failure for each distribution that cannot be read. If a distribution is installed
    twice, the list has the one that an import would find."""
    found: dict[str, Package] = {}
    failures: list[ReadFailure] = []
    for distribution in distributions():
        try:
            about = cast(Message, distribution.metadata)
        except Exception as error:  # the metadata is decoded and parsed here
            failures.append(failure_of(_place(distribution), error))
            continue
        name = re.sub(r"[-_.]+", "-", about.get("Name", "")).lower()
        if name:
            found.setdefault(name, Package(name, distribution, about))
    return [found[name] for name in sorted(found)], failures


def _place(distribution: Distribution) -> str:
    """The folder of its metadata, for error messages. importlib.metadata has no public attribute for it."""
    return str(getattr(distribution, "_path", "an installed package"))


def _readme(package: Package, max_chars: int) -> Iterator[Document]:
    source = clean(package.about.get("Description") or str(package.about.get_payload() or ""))
    if not source.strip() or source.strip() == "UNKNOWN":
        return
    begin = source[: SOURCE_SHARE * max_chars]  # some READMEs end with the notes of every release
    kind = package.about.get("Description-Content-Type") or "text/x-rst"
    text = plain_markdown(begin if kind.startswith("text/markdown") else rst_to_markdown(begin)[1])
    kept = first_blocks(text, max_chars)
    truncated = len(kept) < len(text) or len(begin) < len(source)
    metadata = package.metadata("readme", truncated=truncated)
    yield Document(f"{package.name}/README", kept, package.about["Name"], package.url(), metadata)


def plain_markdown(text: str) -> str:
    """The text without badges, HTML tags and link targets, which are noise to a search. Code stays as it is."""
    parts = []
    for block in parse_blocks(text):
        part = text[block.start : block.end]
        if block.kind is not BlockKind.CODE:
            for pattern, kept in ((BADGE, ""), (IMAGE, r"\1"), (LINK, r"\1"), (TAG_OR_COMMENT, "")):
                part = pattern.sub(kept, part)
        parts.append(part.strip("\n"))
    return join_blocks(parts)


def first_blocks(text: str, max_chars: int) -> str:
    """As many whole blocks as fit in `max_chars`, but at least one."""
    if len(text) <= max_chars:
        return text
    ends = [block.end for block in parse_blocks(text)]
    return text[: max([end for end in ends if end <= max_chars], default=ends[0])].rstrip()


def _modules(package: Package, max_chars: int) -> Iterator[ReadResult]:
    try:
        modules = sorted(public_modules(package.distribution), key=lambda one: (one[0].count("."), one[0]))
    except Exception as error:  # the list of files is decoded and parsed here
        yield failure_of(_place(package.distribution), error)
        return
    left = max_chars
    for module, path in modules:
        entries = module_entries(path)
        kept: list[str] = []
        for entry in entries:
            if len(entry) > left:
                break
            kept.append(entry)
            left -= len(entry)
        if kept:
            metadata = package.metadata("module", truncated=len(kept) < len(entries))
            text = join_blocks([f"# {module}", *kept])
            yield Document(f"{package.name}/{module}", text, module, package.url(), metadata)
        if len(kept) < len(entries):
            return


def public_modules(distribution: Distribution) -> Iterator[tuple[str, Path]]:
    """Dotted names and files of the top-level modules and packages, and of the direct modules in those packages."""
    for file in distribution.files or ():
        names = file.with_suffix("").parts
        if names[-1] == "__init__":
            names = names[:-1]
        if file.suffix == ".py" and 1 <= len(names) <= 2 and all(map(_is_public, names)):
            yield ".".join(names), Path(str(distribution.locate_file(file)))


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and name not in NOT_DOCUMENTATION
