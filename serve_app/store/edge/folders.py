"""The embedded store's files, and the lock on its folder.

    store/.versions                              see versions.py
    store/LOCK                                   held with flock by the owner, whose process id it contains
    store/<tenant>/<collection>/collection.json  {"schema": 1, "space": {"model", "revision", "dim"}, "recipe": {…}}
                                CURRENT          the name of the current generation, replaced atomically
                                <generation>/    a Qdrant Edge shard, and optimized.json once it was optimised
                   <collection>~<index>/         another index; <collection>/ is the first. No name contains `~`
                   <collection>~.active          the name of the active index; without it, the first index is active

An index exists as long as its file CURRENT does. A generation that CURRENT does not name is a leftover of a crash, and
is removed when the index is opened. A collection exists as long as its active index does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from serve_app.errors import ConfigurationError, StoreLocked, StoreUnavailable
from serve_app.types import FIRST_INDEX, NAME, Recipe, Scope, VectorSpace

FOLDER = "store"
CURRENT, COLLECTION, OPTIMIZED, LOCK = "CURRENT", "collection.json", "optimized.json", "LOCK"
ACTIVE_INDEX = ".active"  # not a valid name of an index
SCHEMA = 1
COPY_BYTES = 1 << 20  # at a time


def lock(folder: Path) -> BinaryIO:
    """Lock the folder for this process, until the returned file is closed or the process ends. Creates the folder if
    needed. Raises StoreLocked, with the owner's process id, if another process has the lock, and ConfigurationError if
    the folder cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be the store's folder ({error}); set AIDOCS_DATA_DIR") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read(32).decode(errors="replace").strip()
        file.close()
        raise StoreLocked(
            f"{folder} is in use by {f'process {owner}' if owner.isdecimal() else 'another process'}; "
            "stop it, or set AIDOCS_DATA_DIR to another folder"
        ) from error
    with suppress(OSError):  # on a full disk; a StoreLocked error then does not name the process
        file.truncate(0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    return file


def index_folder(root: Path, scope: Scope) -> Path:
    """The folder of an index. scope: includes the index's name."""
    assert scope.index, "the scope must name an index"
    return root / scope.tenant / (scope.collection + (f"~{scope.index}" if scope.index != FIRST_INDEX else ""))


def active_index(root: Path, scope: Scope) -> Scope:
    """The scope of the collection's active index, which may not exist. No other code reads the .active file."""
    try:
        return scope.at(_pointer(root, scope).read_text().strip())
    except FileNotFoundError:
        return scope.at(FIRST_INDEX)


def activate(root: Path, scope: Scope) -> None:
    """Make this index the active one. Atomic and durable."""
    write_durably(_pointer(root, scope), f"{scope.index}\n")


def indexes_of(root: Path, scope: Scope) -> list[Scope]:
    """The collection's indexes, sorted by name."""
    names = [path.parent.name for path in (root / scope.tenant).glob(f"{scope.collection}*/{CURRENT}")]
    parts = [name.partition("~") for name in names]
    return sorted(
        (scope.at(index or FIRST_INDEX) for collection, _, index in parts if collection == scope.collection),
        key=lambda each: each.index,
    )


def collections_of(root: Path, tenant: str) -> list[str]:
    """Names of the tenant's collections, sorted."""
    names = {path.parent.name.partition("~")[0] for path in (root / tenant).glob(f"*/{CURRENT}")}
    scopes = [Scope(tenant, name) for name in sorted(names) if NAME.fullmatch(name)]
    return [scope.collection for scope in scopes if exists(index_folder(root, active_index(root, scope)))]


def _pointer(root: Path, scope: Scope) -> Path:
    return root / scope.tenant / f"{scope.collection}~{ACTIVE_INDEX}"


def exists(folder: Path) -> bool:
    return (folder / CURRENT).is_file()


def read_recipe(folder: Path) -> Recipe:
    """Raises StoreUnavailable if the file cannot be read, or has a schema of another version of ai-docs."""
    try:
        content = json.loads((folder / COLLECTION).read_text())
        known = content["schema"] == SCHEMA
        recipe = Recipe(VectorSpace(**content["space"]), **content.get("recipe", {})) if known else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreUnavailable(
            f"{folder / COLLECTION} cannot be read ({error!r}): restore it, or drop the collection and index it again"
        ) from error
    if recipe is None:
        raise StoreUnavailable(
            f"{folder} has schema {content.get('schema')}, this version of ai-docs reads {SCHEMA}: "
            "use the version that made it, or index the documents again"
        )
    return recipe


def begin_index(folder: Path, recipe: Recipe) -> None:
    """Create the folder with everything but CURRENT, so the index does not exist yet."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    rest = asdict(recipe)
    write_durably(folder / COLLECTION, json.dumps({"schema": SCHEMA, "space": rest.pop("space"), "recipe": rest}))


def end_index(folder: Path) -> None:
    """Remove CURRENT, so the index no longer exists. Its other files stay."""
    (folder / CURRENT).unlink(missing_ok=True)
    sync_folder(folder)


def forget_active_index(root: Path, scope: Scope) -> None:
    """Call when a collection has ended, so that a new collection of that name starts with its first index."""
    if (pointer := _pointer(root, scope)).exists():
        pointer.unlink()
        sync_folder(pointer.parent)


def remove_ended(root: Path) -> None:
    """Remove indexes that a crash left half-created or half-dropped."""
    for pointer in root.glob(f"*/*~{ACTIVE_INDEX}"):
        scope = Scope(pointer.parent.name, pointer.name.partition("~")[0])
        if not exists(index_folder(root, active_index(root, scope))):
            forget_active_index(root, scope)
    for folder in root.glob("*/*/"):
        if not exists(folder):
            shutil.rmtree(folder, ignore_errors=True)


def new_generation(folder: Path) -> Path:
    """Create an empty folder for a generation in the index's folder."""
    path = folder / f"generation-{uuid.uuid4().hex[:12]}"
    path.mkdir()
    return path


def current_generation(folder: Path) -> Path:
    return folder / (folder / CURRENT).read_text().strip()


def switch_to(generation: Path) -> None:
    """Make this generation the current one. Atomic and durable."""
    write_durably(generation.parent / CURRENT, f"{generation.name}\n")


def leftovers(folder: Path) -> Iterator[Path]:
    """Generations that are not current."""
    current = current_generation(folder)
    return (path for path in folder.iterdir() if path.is_dir() and path != current)


def indexed_when_optimized(generation: Path) -> int:
    """Vectors that the shard counted as indexed after its optimisation; 0 if it was never optimised."""
    path = generation / OPTIMIZED
    return int(json.loads(path.read_text())["indexed_vectors"]) if path.is_file() else 0


def record_optimized(generation: Path, indexed_vectors: int) -> None:
    write_durably(generation / OPTIMIZED, json.dumps({"indexed_vectors": indexed_vectors}))


def write_durably(path: Path, text: str) -> None:
    """Replace the file's text. If the machine stops, the file has either the whole new text or the former text."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_sparsely(source: Path, target: Path) -> None:
    """Copy a folder's content into an existing empty folder. Keeps the holes of sparse files: a shard with 1 MB of data
    has files of 200 MB."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
        else:
            _copy_file(path, copy)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        size_bytes = os.fstat(reading.fileno()).st_size
        for start, end in list(_data_ranges(reading.fileno(), size_bytes)):  # list() first, as lseek moves the position
            reading.seek(start)
            writing.seek(start)
            for at in range(start, end, COPY_BYTES):
                writing.write(reading.read(min(COPY_BYTES, end - at)))
        writing.truncate(size_bytes)


def _data_ranges(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """The ranges of the file that have data; the whole file if the system cannot report holes."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size_bytes
        return
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # no data after it
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
