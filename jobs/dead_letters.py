"""The file of what could not be indexed: a JSON object a line, `at source document_id error input`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from jobs.ledger import DeadLetter
from serve_app.errors import InvalidInput, Unavailable


def default_path(data_dir: Path, collection: str, now: datetime) -> Path:
    return data_dir / "dead-letters" / f"{collection}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.jsonl"


def read_letters(path: Path) -> list[DeadLetter]:
    """Raises InvalidInput, which names the line, if it is no file of dead letters."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(f"dead letters cannot be read from {path}: {error.strerror}") from error
    letters = []
    for number, line in enumerate(lines, start=1):
        try:
            row = orjson.loads(line)
            letters.append(DeadLetter(*(str(row[each.name]) for each in fields(DeadLetter))))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}:{number} is no dead letter of jobs.index: {error}") from error
    return letters


class DeadLetterFile:
    """Use as a context. Appends to what is there; a file made here that stays empty is taken away at the end."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if the file cannot be written, before any work is done."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made = _make(path)
            self._file = path.open("ab")
        except OSError as error:
            raise InvalidInput(f"dead letters cannot be written to {path}: {error.strerror}") from error

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Raises Unavailable if the file cannot take them."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._file.writelines(orjson.dumps({"at": at, **asdict(letter)}) + b"\n" for letter in letters)
            self._file.flush()
        except OSError as error:
            raise Unavailable(
                f"dead letters cannot be written: {self.path}: {error.strerror}. Make room, or name another file, and "
                "run it again: what is stored is passed over, what failed is told anew"
            ) from error

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
