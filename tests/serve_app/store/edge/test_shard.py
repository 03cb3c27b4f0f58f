"""Edge's errors become ours, and accepted writes can be read back from its log."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from qdrant_edge import EdgeShard, FacetRequest, Fusion, Query, QueryRequest

from serve_app.errors import InvalidInput, NotFound, StoreBroken, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge.shard import apply, create_shard, edge_errors, load_shard
from serve_app.store.edge.store import EdgeStore
from serve_app.store.points import StoredPoint
from serve_app.store.write_plan import Put
from serve_app.types import JsonValue, Scope
from serve_app.validation import INT64, MAX_METADATA_DEPTH
from tests.contracts.corpus import SCOPE, SPACE, document, query
from tests.serve_app.store.conftest import MEMORY
from tests.serve_app.store.test_payload import json_values, nested


@settings(max_examples=15, deadline=None)
@given(json_values)
def test_any_accepted_metadata_survives_reopening(value: JsonValue) -> None:
    """Edge writes more to its log than it can read again, so this is checked."""

    async def write_and_reopen(folder: Path) -> None:
        metadata = {"x": value, "deep": nested(MAX_METADATA_DEPTH - 1), "big": INT64[-1], "small": INT64[0]}
        for turn in range(2):
            store = EdgeStore.open(folder, StoreSettings())
            if turn == 0:
                await store.write(SCOPE, SPACE, [document("d", "text", metadata=metadata)])
            assert (await store.document(SCOPE, "d")).metadata == metadata
            await store.close()

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        asyncio.run(write_and_reopen(Path(name)))


@pytest.fixture
def shard(folder: Path) -> EdgeShard:
    return create_shard(folder, StoreSettings(), 8)


CALLERS_FAULTS: list[Callable[[EdgeShard], object]] = [
    lambda shard: shard.query(QueryRequest(limit=1, query=Query.Nearest([1.0, 2.0], using="dense"))),
    lambda shard: shard.facet(FacetRequest("metadata.unindexed")),
    lambda shard: shard.facet(FacetRequest("[[")),
    lambda shard: shard.query(QueryRequest(limit=1, query=Fusion.Dbsf())),
]


@pytest.mark.parametrize("call", CALLERS_FAULTS)
def test_what_the_caller_can_mend_is_invalid_input(shard: EdgeShard, call: Callable[[EdgeShard], object]) -> None:
    apply(shard, Put((StoredPoint("00000000-0000-0000-0000-000000000001", {}, np.ones(8, np.float32)),)))
    with pytest.raises(InvalidInput), edge_errors():
        call(shard)


def test_what_the_store_cannot_is_unavailable(shard: EdgeShard, folder: Path) -> None:
    with pytest.raises(StoreUnavailable, match="WAL"):
        load_shard(folder, StoreSettings(), 8)
    shard.close()
    with pytest.raises(StoreUnavailable, match="not initialized"), edge_errors():
        shard.info()


def test_a_panic_of_rust_is_an_error_of_ours() -> None:
    """pyo3 makes its class when the first panic comes, so this is one of its name and kind."""
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(StoreBroken, match="index out of bounds"), edge_errors():
        raise panic("index out of bounds")


def test_other_exits_and_our_own_errors_pass() -> None:
    for error in (KeyboardInterrupt(), SystemExit(), NotFound("x")):
        with pytest.raises(type(error)), edge_errors():
            raise error


async def test_a_broken_shard_fails_the_health_check(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings())
    try:
        await store.write(SCOPE, SPACE, [])
        await store.check()
        panic = type("PanicException", (BaseException,), {})
        with pytest.raises(StoreBroken), store._collections.opened[SCOPE].shard():
            raise panic("gone")
        with pytest.raises(StoreUnavailable, match="restarted"):
            await store.check()
    finally:
        await store.close()


class Panics:
    """A shard whose call of this name panics, as pyo3 raises it."""

    def __init__(self, shard: EdgeShard, name: str) -> None:
        self._shard, self._name = shard, name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise type("PanicException", (BaseException,), {})("gone")
        return getattr(self._shard, name)


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("query_batch", {}),
        ("query", {"group_by": "document_id"}),
        ("retrieve", {"group_by": "document_id"}),
        ("facet", {"facets": ("document_id",)}),
    ],
)
async def test_a_panic_in_a_search_is_no_answer(folder: Path, call: str, fields: dict[str, Any]) -> None:
    """It is raised, so that the process which owns the store ends; with another scope's query beside it, too."""
    store, other = EdgeStore.open(folder, StoreSettings()), Scope("acme", "other")
    try:
        for scope in (SCOPE, other):
            await store.write(scope, SPACE, [document("d", "text")])
        with store._collections.opened[SCOPE]._generations.used() as generation:
            assert generation is not None
        shard, generation.shard = generation.shard, cast("EdgeShard", Panics(generation.shard, call))
        with pytest.raises(StoreBroken):
            await store.query_batch([query("text", scope=other), query("text", **fields)])
        with pytest.raises(StoreBroken):
            await store.check()
        generation.shard = shard
    finally:
        await store.close()


async def test_a_closed_store_says_so(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [])
    await store.close()
    await store.close()
    for call in (store.check(), store.count(SCOPE), store.write(SCOPE, SPACE, []), store.query_batch([])):
        if call.__name__ == "query_batch":
            assert await call == []
            continue
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


def search_threads() -> int:
    return sum(name_of(thread).startswith("edge-search") for thread in Path("/proc/self/task").iterdir())


def name_of(thread: Path) -> str:
    with suppress(FileNotFoundError):  # ended meanwhile
        return (thread / "comm").read_text()
    return ""


def test_a_shard_searches_with_as_many_threads_as_the_setting_says(folder: Path) -> None:
    before = search_threads()
    shard = create_shard(folder, StoreSettings(search_threads=3), 8)
    assert search_threads() - before == 3
    shard.close()
