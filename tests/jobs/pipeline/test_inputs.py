from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.pipeline.inputs import Input, inputs_of, read_input, to_retry, total_bytes
from jobs.pipeline.ledger import DUPLICATE, DeadLetter
from jobs.pipeline.run import reads, to_block
from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading_process import ReadingProcess
from serve_app.errors import InvalidInput
from serve_app.types import Document


def test_files_with_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("12345")
    (tmp_path / "docs" / os.fsdecode(b"\xff.txt")).write_text("123")
    monkeypatch.chdir(tmp_path)
    inputs = inputs_of("docs")
    assert total_bytes(inputs) == 8
    assert all(each.path.is_absolute() and each.root == tmp_path / "docs" for each in inputs)
    assert [each.name for each in inputs] == [f"{tmp_path}/docs/a.md", f"{tmp_path}/docs/\\xff.txt"]
    again = [Input.from_columns(columns) for columns in to_block(inputs).to_pylist()]
    assert again == inputs
    assert [item.id for item in read_input(again[0], ReadingProcess()) if isinstance(item, Document)] == ["a.md"]


def test_only_what_failed_is_tried_again(tmp_path: Path) -> None:
    for name in ("a.md", "b.jsonl", "c.jsonl"):
        (tmp_path / name).write_text("x")
    inputs = inputs_of(str(tmp_path))
    letters = [
        DeadLetter("a.md", "a.md", "empty", f"{tmp_path}/a.md"),
        *(DeadLetter("b.jsonl", id, "empty", f"{tmp_path}/b.jsonl") for id in ("1", "2", "1")),
        DeadLetter("c.jsonl#2", "", "is no JSON", f"{tmp_path}/c.jsonl"),
        DeadLetter("c.jsonl", "3", "empty", f"{tmp_path}/c.jsonl"),
    ]
    chosen, left = to_retry(inputs, letters)
    assert left == []
    assert [(each.path.name, set(each.only)) for each in chosen] == [
        ("a.md", {"a.md"}), ("b.jsonl", {"1", "2"}), ("c.jsonl", set()),
    ]  # fmt: skip
    assert [Input.from_columns(columns) for columns in to_block(chosen).to_pylist()] == chosen
    assert [each.only_document for each in inputs] == ["a.md", "", ""]


def test_what_cannot_be_tried_alone_is_told(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.md", "sub/b.md", "sub/c.md"):
        (tmp_path / name).write_text("x")
    inputs = inputs_of(str(tmp_path))
    folder = DeadLetter("sub", "", "is a folder that cannot be listed", f"{tmp_path}/sub")
    gone = DeadLetter("gone.md", "gone.md", "is empty", f"{tmp_path}/gone.md")
    twice = DeadLetter("a.md", "a.md", DUPLICATE, f"{tmp_path}/a.md")
    chosen, left = to_retry(inputs, [gone, folder, twice])
    assert [each.path.name for each in chosen] == ["b.md", "c.md"]
    assert left == [gone, twice]
    with pytest.raises(InvalidInput, match="no dead letter is of this source"):
        to_retry(inputs, [gone, twice])


def many(number: int, size_bytes: int) -> list[Input]:
    root = Path("/data")
    return [Input(root / f"{each // 1000}" / f"{each}.md", root, size_bytes) for each in range(number)]


@pytest.mark.parametrize(
    ("number", "size_bytes", "most_calls", "fewest_inputs"),
    [(1_000_000, 1_000, 2_000, 512), (1_000_000, 10_000, 2_100, 400), (100_000, 10**7, 2_100, 48), (3, 10**9, 3, 1)],
)
def test_a_million_files_are_not_as_many_calls(
    number: int, size_bytes: int, most_calls: int, fewest_inputs: int
) -> None:
    inputs = many(1, size_bytes) * number
    calls = [len(some) for some in reads(inputs)]
    assert sum(calls) == number and len(calls) <= most_calls
    assert min(calls[:-1], default=calls[-1]) >= fewest_inputs


def test_many_letters_of_many_files_are_found_at_once() -> None:
    """A look at each file for each letter would take minutes."""
    inputs = many(20_000, 100)
    letters = [DeadLetter(each.path.name, each.path.name, "is empty", each.name) for each in inputs[::2]]
    chosen, left = to_retry(inputs, letters)
    assert chosen == [replace(each, only=frozenset({each.path.name})) for each in inputs[::2]]
    assert left == []


def test_a_source_of_many_small_files_is_listed(tmp_path: Path) -> None:
    """In a few hundred bytes each: a million have room."""
    for folder in range(20):
        (tmp_path / f"{folder:02}").mkdir()
        for number in range(500):
            (tmp_path / f"{folder:02}" / f"{number:03}.md").touch()
    tracemalloc.start()
    try:
        inputs = inputs_of(str(tmp_path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.name for each in inputs] == sorted(each.name for each in inputs)
    assert len(inputs) == 10_000
    assert peak_bytes < 1_500 * len(inputs)


@pytest.mark.parametrize("failing", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_a_file_that_cannot_be_looked_at_is_one_failure(
    failing: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.md").write_text("x")
    (source,) = inputs_of(str(tmp_path))

    def stat(path: object, *, follow_symlinks: bool = True) -> None:
        raise failing

    monkeypatch.setattr(os, "stat", stat)
    (result,) = read_input(source, ReadingProcess())
    assert result == ReadFailure("a.md", f"cannot be read: {failing.strerror}")
    assert source.only_document == "a.md"


def test_sizes_of_many_files_are_asked_for_in_order(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.md").write_bytes(b"x" * number)
    assert [each.size_bytes for each in inputs_of(str(tmp_path))] == list(range(300))


@pytest.mark.parametrize("source", ["none", "none/*.md", "."])
def test_nothing_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"no such file|no documents found"):
        inputs_of(source)


def test_the_documentation_of_installed_packages() -> None:
    (source,) = inputs_of("python-packages")
    assert source.size_bytes > 0
    (again,) = [Input.from_columns(columns) for columns in to_block([source]).to_pylist()]
    first = next(read_input(again, ReadingProcess()))
    assert isinstance(first, Document)
    assert first.id.endswith("/README")
