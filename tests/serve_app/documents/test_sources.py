from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading import only_document
from serve_app.documents.sources import find_files, is_glob, read_source, source_root
from serve_app.errors import InvalidInput
from serve_app.types import Document


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.md", "a/x.TXT", "a/deep/y.jsonl.gz", "a/.hidden.md", ".git/z.md", "a/program.exe", "a/data.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    return tmp_path


def names(tree: Path, source: str) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in find_files(source)]


def test_a_folder_gives_all_known_files_below_sorted(tree: Path) -> None:
    assert names(tree, str(tree)) == ["a/deep/y.jsonl.gz", "a/x.TXT", "b.md"]


def test_a_linked_folder_is_followed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "c.md").write_text("x")
    (tree / "linked").symlink_to(other)
    assert "linked/c.md" in names(tree, str(tree))


def test_a_link_to_what_is_not_mounted_is_not_passed_over(tree: Path) -> None:
    (tree / "archive").symlink_to(tree / "nowhere")
    assert "archive" in names(tree, str(tree))
    (result,) = [result for result in read_source(str(tree)) if getattr(result, "source", "") == "archive"]
    assert result == ReadFailure("archive", "cannot be read: No such file or directory")
    assert only_document(tree / "archive", tree) == ""  # it may have been a folder


def test_what_is_a_glob(tree: Path) -> None:
    (tree / "[a].md").write_text("text")
    assert [is_glob(f"{tree}/{name}") for name in ("*.md", "[a].md", "b.md", "none")] == [True, False, False, False]


def test_globs(tree: Path) -> None:
    assert names(tree, f"{tree}/**/*.TXT") == ["a/x.TXT"]
    assert names(tree, f"{tree}/*.md") == ["b.md"]
    assert names(tree, f"{tree}/**/*") == ["a/deep/y.jsonl.gz", "a/x.TXT", "b.md"]


def test_relative_sources(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    for source in ("*.md", "b.md", "./*.md", f"../{tree.name}/*.md"):
        assert [path.resolve() for path in find_files(source)] == [tree / "b.md"]
    assert [one.id for one in read_source("a/x*") if isinstance(one, Document)] == ["x.TXT"]


def test_a_file_with_wildcards_in_its_name_is_itself(tree: Path) -> None:
    (tree / "a[1].md").write_text("x")
    assert names(tree, f"{tree}/a[1].md") == ["a[1].md"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere", "no such file or folder"),
        ("a/program.exe", "unknown kind of file; known kinds are .md"),
        (".git", "no documents found; known kinds of files are .md"),
        ("a/*.exe", "no documents found"),
        ("a/**x", "only be an entire path component"),
    ],
)
def test_a_source_without_documents_is_refused(tree: Path, source: str, says: str) -> None:
    (tree / ".git" / "z.md").unlink()
    with pytest.raises(InvalidInput, match=says):
        find_files(f"{tree}/{source}")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x" * 300, "File name too long"),
        ("x" * 300 + "/*.md", "File name too long"),
        ("~nobody-of-this-name/a.md", "home directory"),
    ],
)
@pytest.mark.parametrize("look", [find_files, source_root])
def test_a_source_that_cannot_be_looked_at_is_refused(look: Callable[[str], object], source: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{re.escape(source)}: .*{says}"):
        look(source)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not search; root may search any, so it is nobody for the time."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield folder
    os.seteuid(user)


@pytest.mark.parametrize("look", [find_files, source_root])
def test_a_source_below_a_closed_folder_is_refused(look: Callable[[str], object], closed: Path) -> None:
    with pytest.raises(InvalidInput, match=r"a.md: cannot be read: Permission denied"):
        look(f"{closed}/a.md")


def test_ids_are_relative_to_the_source(tree: Path) -> None:
    assert source_root(str(tree)) == source_root(f"{tree}/**/*.md") == source_root(f"{tree}/b.md") == tree
    assert list(read_source(f"{tree}/*.md")) == [Document("b.md", "text", "b")]
    assert list(read_source(f"{tree}/a/x.TXT")) == [Document("x.TXT", "text", "x")]
