"""The file of what could not be indexed: a JSON object a line, `at source document_id error input`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from jobs.pipeline.ledger import DeadLetter
from serve_app.errors import InvalidInput, Unavailable

BEGIN = b'{"at":"'  # of each line; within one, quotes are escaped


def default_path(data_dir: Path, collection: str, now: datetime) -> Path:
    return data_dir / "dead-letters" / f"{collection}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.jsonl"


def read_letters(path: Path) -> list[DeadLetter]:
    """Raises InvalidInput, which names the line, if it is no file of dead letters. A letter that was cut off, by a full
    disk or a kill, is passed over, also where the next one follows it in its line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(f"dead letters cannot be read from {path}: {error.strerror}") from error
    letters = []
    for number, line in enumerate(lines, start=1):
        for content in re.split(b"(?=%b)" % re.escape(BEGIN), line):
            try:
                row = orjson.loads(content)
                letters.append(DeadLetter(*(str(row[each.name]) for each in fields(DeadLetter))))
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                if not (isinstance(error, orjson.JSONDecodeError) and _begins_as_letter(content)):
                    raise InvalidInput(f"{path}:{number} is no dead letter of jobs.index: {error}") from error
    return letters


def _begins_as_letter(content: bytes) -> bool:
    """Or is too short to tell."""
    return content.startswith(BEGIN) or BEGIN.startswith(content)


class DeadLetterFile:
    """Use as a context. Appends to what is there; a file made here that stays empty is taken away at the end."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if the file cannot be written, before any work is done."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made = _make(path)
            self._file = path.open("ab", buffering=0)  # else what had no room is written later, after other letters
        except OSError as error:
            raise InvalidInput(f"dead letters cannot be written to {path}: {error.strerror}") from error

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Raises Unavailable if the file cannot take them."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [orjson.dumps({"at": at, **asdict(letter)}) + b"\n" for letter in letters]
        try:
            if lines and self._is_cut_off():
                lines[0] = b"\n" + lines[0]
            for line in lines:
                self._write(line)
        except OSError as error:
            raise Unavailable(
                f"dead letters cannot be written: {self.path}: {error.strerror}. Make room, or name another file, and "
                "run it again: what is stored is passed over, what failed is told anew"
            ) from error

    def _is_cut_off(self) -> bool:
        """Whether its last line does not end, as a kill or a full disk leaves it."""
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"

    def _write(self, content: bytes) -> None:
        """The whole, or as much as nothing: the file is as it was before where there is no room."""
        before_bytes = os.fstat(self._file.fileno()).st_size
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError:
            with suppress(OSError):  # a pipe or a device cannot be cut
                self._file.truncate(before_bytes)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):  # `append` has said it
            self._file.close()
        if self._made and self.path.is_file() and self.path.stat().st_size == 0:
            self.path.unlink(missing_ok=True)


def _make(path: Path) -> bool:
    """False if it is there already; it may be a device or a pipe, whose size is always 0."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
