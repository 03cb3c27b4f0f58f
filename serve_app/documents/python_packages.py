"""The documentation of every Python package on this machine: real text that needs no download.

The rule, so that a demo of a big environment stays one of minutes: the README of each distribution, its first
README_CHARS; then the docstrings of its top-level packages and of their public direct modules, in that order and
then by name, until MODULE_CHARS of the distribution are used. What was cut says `truncated` in its metadata.
Nothing is imported: docstrings are read by `ast`.
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
SOURCE_SHARE = 4  # how much more of a README is looked at: markup takes its part
MAX_LICENSE_CHARS = 64  # some put the whole licence there
NOT_DOCUMENTATION = frozenset({"test", "tests", "testing", "conftest", "setup"})
HOME_LABELS = ("homepage", "documentation", "source", "source code", "repository", "github")

BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)|\[!\[[^\]]*\]\[[^\]]*\]\]\[[^\]]*\]")
IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
LINK = re.compile(r"\[([^\[\]]*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)")
TAG_OR_COMMENT = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution. name: normalised (PEP 503); about: its metadata, parsed once."""

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
        """The home page; else documentation, source or repository; else none."""
        entries = (entry.partition(",") for entry in self.about.get_all("Project-URL") or ())
        links = {label.strip().lower(): url.strip() for label, _, url in entries}
        urls = [self.about.get("Home-page", ""), *(links.get(label, "") for label in HOME_LABELS)]
        return next((url for url in urls if url.startswith(("http://", "https://"))), "")


def python_package_documents(
    readme_chars: int = README_CHARS, module_chars: int = MODULE_CHARS
) -> Iterator[ReadResult]:
    """READMEs of all distributions, then their modules, by name. Ids are `distribution/README` and
    `distribution/dotted.module`: the same on every machine with the same packages. A distribution whose metadata or
    list of files cannot be read is a failure."""
    packages, failures = installed()
    for package in packages:
        yield from _readme(package, readme_chars)
    for package in packages:
        yield from _modules(package, module_chars)
    yield from failures


def installed() -> tuple[list[Package], list[ReadFailure]]:
    """By name; of a distribution that is installed twice, the one that an import would find. And what cannot be
    read."""
    found: dict[str, Package] = {}
    failures: list[ReadFailure] = []
    for distribution in distributions():
        try:
            about = cast(Message, distribution.metadata)
        except Exception as error:  # it is decoded and parsed here
            failures.append(failure_of(_place(distribution), error))
            continue
        name = re.sub(r"[-_.]+", "-", about.get("Name", "")).lower()
        if name:
            found.setdefault(name, Package(name, distribution, about))
    return [found[name] for name in sorted(found)], failures


def _place(distribution: Distribution) -> str:
    """Its folder of metadata, for people; it has no public name."""
    return str(getattr(distribution, "_path", "an installed package"))


def _readme(package: Package, max_chars: int) -> Iterator[Document]:
    source = clean(package.about.get("Description") or str(package.about.get_payload() or ""))
    if not source.strip() or source.strip() == "UNKNOWN":
        return
    begin = source[: SOURCE_SHARE * max_chars]  # some append every release note since the first
    kind = package.about.get("Description-Content-Type") or "text/x-rst"
    text = plain_markdown(begin if kind.startswith("text/markdown") else rst_to_markdown(begin)[1])
    kept = first_blocks(text, max_chars)
    truncated = len(kept) < len(text) or len(begin) < len(source)
    metadata = package.metadata("readme", truncated=truncated)
    yield Document(f"{package.name}/README", kept, package.about["Name"], package.url(), metadata)


def plain_markdown(text: str) -> str:
    """Outside code: without badges, HTML tags and the targets of links, which are noise to a search."""
    parts = []
    for block in parse_blocks(text):
        part = text[block.start : block.end]
        if block.kind is not BlockKind.CODE:
            for pattern, kept in ((BADGE, ""), (IMAGE, r"\1"), (LINK, r"\1"), (TAG_OR_COMMENT, "")):
                part = pattern.sub(kept, part)
        parts.append(part.strip("\n"))
    return join_blocks(parts)


def first_blocks(text: str, max_chars: int) -> str:
    """As many whole blocks as fit, at least one."""
    if len(text) <= max_chars:
        return text
    ends = [block.end for block in parse_blocks(text)]
    return text[: max([end for end in ends if end <= max_chars], default=ends[0])].rstrip()


def _modules(package: Package, max_chars: int) -> Iterator[ReadResult]:
    try:
        modules = sorted(public_modules(package.distribution), key=lambda one: (one[0].count("."), one[0]))
    except Exception as error:  # its list of files is decoded and parsed here
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
    """Dotted names and files of the top-level modules and packages and of the packages' direct modules."""
    for file in distribution.files or ():
        names = file.with_suffix("").parts
        if names[-1] == "__init__":
            names = names[:-1]
        if file.suffix == ".py" and 1 <= len(names) <= 2 and all(map(_is_public, names)):
            yield ".".join(names), Path(str(distribution.locate_file(file)))


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and name not in NOT_DOCUMENTATION
