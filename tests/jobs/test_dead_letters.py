from __future__ import annotations

import os
import stat
from pathlib import Path

import orjson
import pytest

from jobs.dead_letters import DeadLetterFile
from jobs.ledger import DeadLetter

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
