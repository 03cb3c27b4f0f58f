"""Writes and deletes on a Qdrant server: which calls they make, and which index they reach during a switch."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
from qdrant_client import AsyncQdrantClient

from serve_app.errors import Conflict, NotFound
from serve_app.settings import StoreSettings
from serve_app.store.qdrant.active_index import IndexState, QdrantActiveIndex
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.store.qdrant.changes import QdrantChanges
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, document
from tests.serve_app.store.qdrant.met_at_calls import (
    FINE,
    FIRST,
    Clock,
    Hook,
    MetAtCalls,
    ended,
    moved_by_hand,
    with_two_indexes,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

LEASE_S = 60.0
LOOK = "get_collection"
CHANGES: dict[str, Callable[[QdrantStore], Coroutine[Any, Any, object]]] = {
    "write": lambda store: store.write(SCOPE, SPACE, [document("late", "text")]),
    "delete": lambda store: store.delete_documents(SCOPE, ["d"]),
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return moved_by_hand(monkeypatch)


@pytest.fixture
async def server() -> AsyncIterator[AsyncQdrantClient]:
    server = AsyncQdrantClient(":memory:")
    yield server
    await server.close()


async def begin(server: AsyncQdrantClient, clock: Clock, active: Scope) -> QdrantStore:
    """A collection of two indexes with the same document, seen by one process."""
    store = await with_two_indexes(server)
    if active == FINE:
        await store.switch(FINE, await store.hold(SCOPE, LEASE_S))
        clock.now_s += LEASE_S
    return store


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("active", "looks"), [(FIRST, (2, 2)), (FINE, (2, 1))])
async def test_a_change_asks_once_which_index_answers_and_once_whether_it_still_does(
    server: AsyncQdrantClient, clock: Clock, change: str, active: Scope, looks: tuple[int, int]
) -> None:
    """The first index has no alias that says so, hence one call more, as where it is not yet known that there is an
    alias. (A write made 5 of these calls, 7 in a process that had not looked before; a delete 4.)"""
    await begin(server, clock, active)
    met = MetAtCalls(server)
    store = QdrantStore(cast("AsyncQdrantClient", met), StoreSettings())
    for before in looks:
        met.calls.clear()
        await CHANGES[change](store)
        assert met.calls[:before] == [LOOK] * before
        assert LOOK not in met.calls[before:-1]
        assert met.calls[-1] == LOOK, "after all that it changed"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("old", "new"), [(FIRST, FINE), (FINE, FIRST)])
async def test_an_acknowledged_change_is_in_the_index_that_answers_whenever_another_one_takes_over(
    clock: Clock, change: str, old: Scope, new: Scope
) -> None:
    """Held back before any call of the change, switched before that call or a later one."""
    calls = await with_a_switch(clock, change, (old, new), (0, 0))  # undisturbed
    assert calls > 5
    for held_at in range(1, calls + 1):
        for switched_at in sorted({held_at, held_at + 1, calls, calls + 2}):
            await with_a_switch(clock, change, (old, new), (held_at, switched_at))


async def test_changes_of_a_collection_take_turns_and_leave_no_lock_behind(server: AsyncQdrantClient) -> None:
    changes = QdrantChanges(QdrantActiveIndex(server, QdrantCalls(5.0)), None)
    under_way: set[Scope] = set()
    most_locks = 0

    async def change(scope: Scope) -> None:
        nonlocal most_locks
        async with changes.changing(scope):
            assert scope not in under_way
            under_way.add(scope)
            for _ in range(5):
                await asyncio.sleep(0)  # the others' turn
            most_locks = max(most_locks, len(changes._locks))
            under_way.remove(scope)

    scopes = [Scope("acme", f"collection-{number}") for number in range(10)]
    waiting = [asyncio.create_task(change(scope)) for scope in scopes * 3]
    await asyncio.sleep(0)
    waiting[-1].cancel()  # while it waits
    await asyncio.gather(*waiting[:-1])
    assert most_locks == 10, "they were held at the same time"
    with pytest.raises(NotFound):
        await changes.change(SCOPE, not_there)
    del waiting  # the traceback of the one that was cancelled
    gc.collect()
    assert len(changes._locks) == 0


async def not_there(_: IndexState) -> None:
    raise NotFound("there is no collection")


async def with_a_switch(clock: Clock, change: str, indexes: tuple[Scope, Scope], at: tuple[int, int]) -> int:
    """How many calls the change took. indexes: old and new. at: before which of them writes are held back, and the
    other index is let answer; 0 for never."""
    (old, new), (held_at, switched_at) = indexes, at
    server = AsyncQdrantClient(":memory:")
    other = await begin(server, clock, old)
    met = MetAtCalls(server)
    held: list[str] = []

    async def hold() -> None:
        held.append(await other.hold(SCOPE, LEASE_S))

    async def switch() -> None:
        with contextlib.suppress(Conflict):  # waited for the change to go on, until the hold was over
            await other.switch(new, held[0])

    met.before[switched_at] = switch
    met.before[held_at] = hold if held_at < switched_at else lambda: in_turn(hold, switch)
    await ended(
        asyncio.create_task(CHANGES[change](QdrantStore(cast("AsyncQdrantClient", met), StoreSettings()))), clock
    )
    there = await other.fingerprints(SCOPE, ["d", "late"])
    assert set(there) == ({"d", "late"} if change == "write" else set()), (held_at, switched_at)
    await server.close()
    return len(met.calls)


async def in_turn(*hooks: Hook) -> None:
    for hook in hooks:
        await hook()
