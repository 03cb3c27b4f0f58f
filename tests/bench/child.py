"""A child process that answers JSON lines, so that contenders do not share thread pools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any


class Child:
    """`python -m module *arguments` as a context manager. The child's first line of stdout says that it is ready."""

    def __init__(self, module: str, *arguments: str, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environ,
        )  # fmt: skip
        self._answer()

    def ask(self, question: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.communicate(timeout=30)  # closes stdin, which ends the child


def answer_all(answer: Callable[[Any], object], questions: IO[str]) -> None:
    """The loop of the child process."""
    print(json.dumps("ready"), flush=True)
    for line in questions:
        print(json.dumps(answer(json.loads(line))), flush=True)
