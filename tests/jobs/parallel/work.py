"""Functions that the tests run. They have their own module so that Ray workers can import it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from serve_app.errors import InvalidInput


def add(*numbers: int) -> int:
    return sum(numbers)


def double(number: int) -> int:
    return 2 * number


def process(_: object) -> int:
    return os.getpid()


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail(*_: object) -> None:
    raise ValueError("on purpose")


def fail_if_odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def marked(folder: Path, name: str) -> int:
    """How often it was called with this name before. It counts in files, because they outlive processes."""
    count = len(list(folder.glob(f"{name}.*")))
    (folder / f"{name}.{count}").touch()
    return count


def fail_first(call: tuple[Path, str, int]) -> str:
    folder, name, times = call
    if marked(folder, name) < times:
        raise InvalidInput(f"{name} fails at first")
    return name


def die_first(call: tuple[Path, str, int]) -> str:
    """Its process ends as if it was killed."""
    folder, name, times = call
    if marked(folder, name) < times:
        os._exit(1)
    return name


def hang(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(3_600)


def hang_or_double(item: Path | int) -> int:
    if isinstance(item, int):
        return double(item)
    hang(item)
    return 0


def leave(number: int) -> int:
    if number == 5:
        raise SystemExit
    return number


def unpicklable_if_odd(number: int) -> object:
    return threading.Lock() if number % 2 else number


class Clumsy(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def raise_clumsy(_: object) -> None:
    raise Clumsy("cannot be", "unpickled")
