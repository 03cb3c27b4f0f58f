"""Values of finished tasks on disk, so that a run that was cut off goes on where it was.

```text
FOLDER/KEY.json    the value, as JSON
FOLDER/KEY.bytes   a value that is bytes
```

KEY is 32 hex digits (BLAKE2b) of the task's id, its function's name, its arguments and the keys of all that it follows:
a task is done again when anything before it has changed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import orjson

from jobs.parallel.task import Task
from serve_app.errors import InvalidInput, Unavailable


class Checkpoint:
    def __init__(self, folder: Path) -> None:
        """Made at need. Raises InvalidInput if it cannot be."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot hold a checkpoint: {error.strerror}") from error

    def load(self, key: str) -> tuple[bool, Any]:
        """Whether it is there, and the value. Raises Unavailable if the folder cannot be read."""
        try:
            for suffix in (".json", ".bytes"):
                if (path := self._folder / f"{key}{suffix}").exists():
                    content = path.read_bytes()
                    return True, content if suffix == ".bytes" else orjson.loads(content)
        except orjson.JSONDecodeError:  # written by nobody of ours: do it again
            return False, None
        except OSError as error:
            raise Unavailable(f"the checkpoint in {self._folder} cannot be read: {error.strerror}") from error
        return False, None

    def save(self, key: str, value: Any) -> None:
        """Wholly or not at all. Raises InvalidInput if JSON does not give the value back as it is, Unavailable if there
        is no room."""
        content, suffix = (value, ".bytes") if isinstance(value, bytes) else (to_json(value), ".json")
        new: Path | None = None
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix="new-", delete=False) as file:
                new = Path(file.name)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._folder / f"{key}{suffix}")
        except OSError as error:
            if new:
                new.unlink(missing_ok=True)
            raise Unavailable(
                f"the checkpoint in {self._folder} cannot be written: {error.strerror}. Make room and run it again: "
                "what is in it is passed over"
            ) from error

    def clear(self) -> None:
        """When all is done and nothing is to be resumed."""
        for path in self._folder.iterdir():
            if path.suffix in (".json", ".bytes") or path.name.startswith("new-"):
                path.unlink(missing_ok=True)


def to_json(value: Any) -> bytes:
    try:
        content = orjson.dumps(value)
        same = orjson.loads(content) == value
    except (orjson.JSONEncodeError, ValueError) as error:
        raise InvalidInput(f"a checkpoint keeps bytes and JSON, not {type(value).__name__}: {error}") from error
    if not same:
        raise InvalidInput(f"JSON does not give {type(value).__name__} back as it was: return dicts, lists and text")
    return content


def keys_of(tasks: Mapping[str, Task], order: Iterable[str]) -> dict[str, str]:
    """order: each id after all that it follows. Raises InvalidInput if arguments are neither JSON nor paths."""
    keys: dict[str, str] = {}
    for id in order:
        task = tasks[id]
        named = [task.id, function_name(task), arguments(task), [keys[each] for each in task.follows]]
        try:
            content = orjson.dumps(named, default=path_text, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise InvalidInput(f"{id}: a checkpoint needs arguments that are JSON or paths: {error}") from error
        keys[id] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return keys


def function_name(task: Task) -> str:
    """Raises InvalidInput for what depends on more than its arguments: an object's method, an object that is called."""
    function: Any = task.function
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, FunctionType | BuiltinFunctionType | type):
        raise InvalidInput(f"{task.id}: a checkpoint needs a function, for what else an object holds is not in its key")
    return f"{function.__module__}.{function.__qualname__}"


def arguments(task: Task) -> list[Any]:
    """Those of `functools.partial` too."""
    found: list[Any] = list(task.args)
    function: object = task.function
    while isinstance(function, functools.partial):
        found = [*function.args, *found, function.keywords]
        function = function.func
    return found


def path_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)
