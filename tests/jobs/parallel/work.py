"""What the tests run. A module of its own, so that workers import it."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

from serve_app.errors import InvalidInput


def add(*numbers: int) -> int:
    return sum(numbers)


def fail(*_: object) -> None:
    raise ValueError("on purpose")


def spin(turns: int) -> int:
    """Computes and holds the global lock."""
    total = 0
    for number in range(turns):
        total += number * number
    return total


def press(content: bytes) -> int:
    """Computes without the lock."""
    return len(zlib.compress(content, 6))


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def process() -> int:
    return os.getpid()


def marked(folder: Path, name: str) -> int:
    """How often it was called with this name, by files, which outlive processes."""
    count = len(list(folder.glob(f"{name}.*")))
    (folder / f"{name}.{count}").touch()
    return count


def fail_first(folder: Path, name: str, times: int) -> str:
    if marked(folder, name) < times:
        raise InvalidInput(f"{name} fails at first")
    return name


def die_first(folder: Path, name: str, times: int) -> str:
    """Its process ends as if it was killed."""
    if marked(folder, name) < times:
        os._exit(1)
    return name


def hang(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(3_600)


class Clumsy(Exception):
    """Cannot be pickled back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def raise_clumsy() -> None:
    raise Clumsy("does not", "travel")
