from __future__ import annotations

import os
import stat
from pathlib import Path

import orjson
import pytest

from jobs.pipeline.dead_letters import DeadLetterFile, read_letters
from jobs.pipeline.ledger import DeadLetter, Report
from jobs.pipeline.tally import Tally
from serve_app.errors import InvalidInput, Unavailable
from tests.jobs.export.test_command import no_room_after

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


def test_what_has_no_room_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    long = DeadLetter("long.pdf", "", "x" * 20_000)
    with DeadLetterFile(path) as file:
        with no_room_after(10_000), pytest.raises(Unavailable, match=r"letters.jsonl: File too large"):
            file.append([LETTER, long])
        assert read_letters(path) == [LETTER]
        assert path.read_bytes().endswith(b"}\n")
        file.append([long])
    assert read_letters(path) == [LETTER, long]


def test_a_file_made_here_in_which_nothing_has_room_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    with DeadLetterFile(path) as file, no_room_after(10), pytest.raises(Unavailable):
        file.append([LETTER])
    assert not path.exists()


WHOLE = b'{"at":"2026-01-01T00:00:00+00:00","source":"a.pdf","document_id":"","error":"cannot be read","input":""}'


@pytest.mark.parametrize("left", [WHOLE[:3], WHOLE[:50], WHOLE[:-1], WHOLE], ids=["3", "50", "all but one", "all"])
def test_a_line_that_was_cut_off_takes_no_other_with_it(left: bytes, tmp_path: Path) -> None:
    path, new = tmp_path / "letters.jsonl", DeadLetter("new.md", "new", "is empty")
    path.write_bytes(WHOLE + b"\n" + left)
    before = [LETTER] * (2 if left == WHOLE else 1)
    assert read_letters(path) == before
    with DeadLetterFile(path) as file:
        file.append([new, new])
    assert path.read_bytes().startswith(WHOLE + b"\n" + left + b"\n")
    assert read_letters(path) == [*before, new, new]


def test_a_letter_in_the_line_of_one_that_was_cut_off_is_read(tmp_path: Path) -> None:
    """As files of earlier versions have it. What looks like the beginning of a letter may be in one."""
    path, quoting = tmp_path / "letters.jsonl", DeadLetter('{"at":"', "", '{"at":"')
    with DeadLetterFile(path) as file:
        file.append([quoting])
    path.write_bytes(WHOLE[:50] + path.read_bytes() + WHOLE + WHOLE)
    assert read_letters(path) == [quoting, LETTER, LETTER]


@pytest.mark.parametrize("line", [b"text", b"[1]", b'{"at": "', b'{"at":"2026"}', WHOLE[1:]])
def test_what_is_no_letter_is_told(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    path.write_bytes(WHOLE + b"\n" + line + b"\n" + WHOLE)
    with pytest.raises(InvalidInput, match=r"letters.jsonl:2 is no dead letter"):
        read_letters(path)
