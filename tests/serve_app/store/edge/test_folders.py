from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.errors import NotFound, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.store import EdgeStore
from serve_app.types import FIRST_INDEX, Recipe, Scope, VectorSpace
from tests.contracts.corpus import SCOPE, SPACE, document, listed_ids


@given(
    st.lists(st.tuples(st.integers(0, 1 << 22), st.binary(min_size=1, max_size=9_000)), max_size=5), st.integers(0, 5)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_sparse_copy_is_equal_and_no_larger(folder: Path, writes: list[tuple[int, bytes]], number: int) -> None:
    source, target = folder / "source", folder / "target"
    (source / "deep" / "empty").mkdir(parents=True, exist_ok=True)
    path = source / "deep" / "file"
    with path.open("wb") as file:
        for at, content in writes:
            file.seek(at)
            file.write(content)
        file.truncate((1 << 22) + number)
    folders.shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    folders.copy_sparsely(source, target)
    copy = target / "deep" / "file"
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_blocks <= path.stat().st_blocks + 8
    assert (target / "deep" / "empty").is_dir()


def test_write_durably_replaces(folder: Path) -> None:
    folders.write_durably(folder / "x.json", "one")
    folders.write_durably(folder / "x.json", "two")
    assert [path.name for path in folder.iterdir()] == ["x.json"]
    assert (folder / "x.json").read_text() == "two"


def test_a_lock_is_taken_once_and_freed(folder: Path) -> None:
    first = folders.lock(folder / "store")
    with pytest.raises(StoreUnavailable, match="in use by process"):
        folders.lock(folder / "store")
    first.close()
    folders.lock(folder / "store").close()


async def test_what_a_crash_left_is_removed(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [document("d", "text")])
    await store.close()
    collection = folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX))
    half_copied = folders.new_generation(collection)
    (half_copied / "segments").mkdir()
    half_made = folders.index_folder(folder / "store", Scope("acme", "half-made").at(FIRST_INDEX))
    folders.begin_index(half_made, Recipe(SPACE))

    store = EdgeStore.open(folder, StoreSettings())
    try:
        assert await listed_ids(store) == ["d"]
        assert [path for path in collection.iterdir() if path.is_dir()] == [folders.current_generation(collection)]
        assert not half_made.exists()
        assert [info.name for info in await store.collections("acme")] == ["handbook"]
        with pytest.raises(NotFound):
            await store.count(Scope("acme", "half-made"))
    finally:
        await store.close()


async def test_a_folder_of_another_version_is_refused_and_kept(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [document("d", "text")])
    await store.write(Scope("acme", "fine"), SPACE, [])
    await store.close()
    path = folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX)) / folders.COLLECTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))

    store = EdgeStore.open(folder, StoreSettings())
    try:
        with pytest.raises(StoreUnavailable, match="schema 99"):
            await store.write(SCOPE, SPACE, [document("e", "text")])
        assert (await store.count(Scope("acme", "fine"))).documents == 0  # the others work
    finally:
        await store.close()
    path.write_text(path.read_text().replace("99", "1"))
    store = EdgeStore.open(folder, StoreSettings())
    try:
        assert await listed_ids(store) == ["d"]
    finally:
        await store.close()


async def test_a_damaged_shard_is_told_with_its_folder(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [document("d", "text")])
    await store.close()
    collection = folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX))
    folders.shutil.rmtree(folders.current_generation(collection))
    store = EdgeStore.open(folder, StoreSettings())
    try:
        with pytest.raises(StoreUnavailable, match=r"cannot open .*generation-"):
            await store.count(SCOPE)
    finally:
        await store.close()


def test_a_recipe_survives(folder: Path) -> None:
    recipe = Recipe(VectorSpace("mödel", "r/1", 384), max_tokens=100, precision="int8")
    folders.begin_index(folder / "t" / "c", recipe)
    assert folders.read_recipe(folder / "t" / "c") == recipe
    folders.write_durably(
        folder / "t" / "c" / folders.COLLECTION, json.dumps({"schema": 1, "space": asdict(recipe.space)})
    )
    assert folders.read_recipe(folder / "t" / "c") == Recipe(recipe.space), "as versions before wrote it"
