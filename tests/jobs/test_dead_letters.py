from __future__ import annotations

import os
import stat
from pathlib import Path

import orjson
import pytest

from jobs.dead_letters import DeadLetterFile, read_letters
from jobs.index_run import Tally
from jobs.ledger import DeadLetter, Report
from serve_app.errors import Unavailable

LETTER = DeadLetter("a.pdf", "", "cannot be read")


def test_letters_are_appended_and_no_empty_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "letters.jsonl"
    with DeadLetterFile(path):
        assert path.exists()
    assert not path.exists()
    for _ in range(2):
        with DeadLetterFile(path) as file:
            file.append([LETTER])
    assert [orjson.loads(line)["source"] for line in path.read_bytes().splitlines()] == ["a.pdf", "a.pdf"]


def test_letters_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    with DeadLetterFile(path) as file:
        file.append([LETTER, DeadLetter("b.jsonl#2", "2", "is no JSON", "/data/b.jsonl")])
    assert read_letters(path) == [LETTER, DeadLetter("b.jsonl#2", "2", "is no JSON", "/data/b.jsonl")]


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.touch()
    with DeadLetterFile(own):
        pass
    assert own.exists()


@pytest.mark.parametrize("letters", [[], [LETTER]], ids=["nothing failed", "a failure"])
def test_a_pipe_is_written_to_and_stays(letters: list[DeadLetter], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with DeadLetterFile(pipe) as file:
            file.append(letters)
        assert len(os.read(reader, 4096).splitlines()) == len(letters)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A file on a device without room."""
    path = tmp_path / "full.jsonl"
    path.symlink_to("/dev/full")
    return path


def test_letters_that_cannot_be_written_are_counted(full: Path) -> None:
    shown: list[Report] = []
    with DeadLetterFile(full) as file:
        tally = Tally(file, shown.append)
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"cannot be written: .*full.jsonl: No space left .* run it again"):
                tally.add(Report(indexed=1, failed=1, dead_letters=(LETTER,)))
    assert tally.total == shown[-1] == Report(indexed=2, failed=2)
    assert full.is_symlink()
