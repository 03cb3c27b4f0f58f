"""Switches and drops at the worst moment of a write or search. Several stores use one server, and a test interrupts one
of them at a chosen call of its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from serve_app.errors import Conflict, NotFound, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.qdrant import active_index as qdrant_active_index
from serve_app.store.qdrant.active_index import ACTIVE_INDEX_TTL_S, CLOCK_SKEW_S, alias_name, physical_name
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, document, found, listed_ids, query
from tests.serve_app.store.qdrant.met_at_calls import (
    FINE,
    FIRST,
    Clock,
    MetAtCalls,
    Pause,
    ended,
    moved_by_hand,
    with_two_indexes,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

LEASE_S = 5.0
SWITCH, DROP, HOLD = "update_collection_aliases", "delete_collection", "update_collection"


async def fail() -> None:
    raise UnexpectedResponse(500, "reason", b"details", httpx.Headers())


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return moved_by_hand(monkeypatch)


@pytest.fixture
async def server() -> AsyncIterator[AsyncQdrantClient]:
    """With a collection of two indexes."""
    server = AsyncQdrantClient(":memory:")
    await with_two_indexes(server)
    yield server
    await server.close()


@pytest.fixture
def met(server: AsyncQdrantClient) -> MetAtCalls:
    return MetAtCalls(server)


@pytest.fixture
def store(met: MetAtCalls) -> QdrantStore:
    return QdrantStore(cast("AsyncQdrantClient", met), StoreSettings())


@pytest.fixture
def other(server: AsyncQdrantClient) -> QdrantStore:
    """Of another process."""
    return QdrantStore(server, StoreSettings())


async def switch(store: QdrantStore, scope: Scope) -> None:
    await store.switch(scope, await store.hold(SCOPE, LEASE_S))


async def still_waits(task: asyncio.Task[Any]) -> bool:
    """Long after it could have gone on."""
    await asyncio.wait([task], timeout=0.2)
    return not task.done()


async def test_writes_wait_for_as_long_as_a_switch_may_take(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock
) -> None:
    """Which may be longer than the hold was asked for."""
    met.before[SWITCH] = pause = Pause()
    switching = asyncio.create_task(switch(store, FINE))
    await pause.met.wait()
    clock.now_s += LEASE_S
    writing = asyncio.create_task(other.write(SCOPE, SPACE, [document("late", "text")]))
    assert await still_waits(writing)
    pause.go_on.set()
    await switching
    await ended(writing, clock)
    assert sorted(await listed_ids(other)) == ["d", "late"]


async def test_a_switch_whose_answer_does_not_come_may_yet_be_done(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock
) -> None:
    held = await store.hold(SCOPE, LEASE_S)
    met.before[SWITCH] = fail
    with pytest.raises(StoreUnavailable):
        await store.switch(FINE, held)
    await store.release(SCOPE, held)
    writing = asyncio.create_task(other.write(SCOPE, SPACE, [document("late", "text")]))
    assert await still_waits(writing)
    clock.now_s += store._active_index.fence_s - 2 * CLOCK_SKEW_S
    assert await still_waits(writing)
    await other._active_index.activate(FINE)  # which now arrives
    await ended(writing, clock)
    assert sorted(await listed_ids(other)) == ["d", "late"]


async def test_such_a_switch_can_be_repeated(store: QdrantStore, met: MetAtCalls, other: QdrantStore) -> None:
    for hooks in (met.before, met.after):
        before = (await other.active_index(SCOPE)).scope
        new = FINE if before == FIRST else FIRST
        held = await store.hold(SCOPE, LEASE_S)
        hooks[SWITCH] = fail
        with pytest.raises(StoreUnavailable):
            await store.switch(new, held)
        await store.switch(new, held)
        assert (await other.active_index(SCOPE)).scope == new


async def test_a_hold_that_ends_while_it_is_made_longer_switches_nothing(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock
) -> None:
    """A write may have come through."""
    held = await store.hold(SCOPE, LEASE_S)

    async def takes_long() -> None:
        clock.now_s += LEASE_S
        await other.write(SCOPE, SPACE, [document("late", "text")])

    met.before[HOLD] = takes_long
    with pytest.raises(Conflict, match="again"):
        await store.switch(FINE, held)
    await store.release(SCOPE, held)
    await other.write(SCOPE, SPACE, [document("later", "text")])
    assert sorted(await listed_ids(other)) == ["d", "late", "later"]


@pytest.mark.parametrize("before", [True, False])
async def test_a_write_that_comes_after_the_last_copy_is_done_again(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock, before: bool
) -> None:
    """Though the switch is done, and the hold released, before it looks again, or just after."""

    async def hold() -> None:
        held = await other.hold(SCOPE, LEASE_S)
        (met.before if before else met.after)["get_collection"] = lambda: other.switch(FINE, held)

    met.before["upsert"] = hold
    await ended(asyncio.create_task(store.write(SCOPE, SPACE, [document("late", "text")])), clock)
    assert (await other.active_index(SCOPE)).scope == FINE
    assert sorted(await listed_ids(other)) == ["d", "late"]


@pytest.mark.parametrize("call", ["get_collection", DROP])
async def test_an_index_that_is_let_answer_while_it_is_dropped_stays(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock, call: str
) -> None:
    """And one that goes first cannot be let answer any more."""
    met.before[call, physical_name(FINE)] = lambda: switch(other, FINE)
    with pytest.raises(Conflict, match="try again"):
        await store.drop(FINE)
    active = await other.active_index(SCOPE)
    assert active.scope == (FINE if call == "get_collection" else FIRST)
    assert await listed_ids(other) == ["d"]
    await ended(asyncio.create_task(other.write(SCOPE, SPACE, [document("e", "text")])), clock)


async def test_a_drop_whose_answer_does_not_come_may_yet_be_done(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock
) -> None:
    met.before[DROP] = fail
    with pytest.raises(StoreUnavailable):
        await store.drop(FINE)
    with pytest.raises(Conflict, match="held back"):
        await switch(other, FINE)
    clock.now_s += store._active_index.fence_s
    await switch(other, FINE)


async def test_when_a_write_is_acknowledged_every_process_searches_where_it_went(
    store: QdrantStore, other: QdrantStore, clock: Clock
) -> None:
    assert await found(other, query("text")) == ["d"]  # which knows for a while
    await switch(store, FINE)
    writing = asyncio.create_task(store.write(SCOPE, SPACE, [document("new", "new")]))
    assert await still_waits(writing)
    assert await found(other, query("new", "sparse")) == []
    held = await store.hold(SCOPE, LEASE_S)  # nobody else has one
    await store.release(SCOPE, held)
    await ended(writing, clock)
    assert await found(other, query("new", "sparse")) == ["new"]


async def test_an_index_that_was_looked_up_long_ago_is_looked_up_again(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock
) -> None:
    """It counts when the server was asked, not when it answered."""
    met.after["get_collection", alias_name(SCOPE)] = pause = Pause()
    searching = asyncio.create_task(found(store, query("text")))
    await pause.met.wait()
    await switch(other, FINE)
    clock.now_s += ACTIVE_INDEX_TTL_S + CLOCK_SKEW_S
    await other.write(SCOPE, SPACE, [document("new", "new")])
    pause.go_on.set()
    await searching
    assert await found(store, query("new", "sparse")) == ["new"]


async def test_an_index_is_forgotten_though_it_is_being_looked_up(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore
) -> None:
    """As for an answer that is kept under the version after the switch."""
    met.after["get_collection", alias_name(SCOPE)] = pause = Pause()
    searching = asyncio.create_task(found(store, query("text")))
    await pause.met.wait()
    await switch(other, FINE)
    await other.delete_documents(FIRST, ["d"])
    store._forget(SCOPE)  # on a new version
    pause.go_on.set()
    assert await searching == []
    assert await found(store, query("text")) == ["d"]


@pytest.mark.parametrize("meets", ["get_collection", "upsert"])
async def test_a_write_that_meets_a_drop_makes_the_collection_anew_and_no_index_of_the_old_one(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore, clock: Clock, meets: str
) -> None:
    await switch(other, FINE)
    clock.now_s += ACTIVE_INDEX_TTL_S + CLOCK_SKEW_S
    assert await found(store, query("text")) == ["d"]  # so that the first to state the index up is the write
    hooks = met.after if meets == "get_collection" else met.before
    hooks[meets] = lambda: other.drop(SCOPE)
    await store.write(SCOPE, SPACE, [document("new", "new")])
    assert [each.scope for each in await store.indexes(SCOPE)] == [FIRST]
    assert await listed_ids(store) == ["new"]


async def test_names_that_are_asked_for_fill_no_memory(store: QdrantStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_active_index, "MAX_KNOWN", 3)
    for number in range(10):
        with pytest.raises(NotFound):
            await store.count(Scope("acme", f"made-up-{number}"))
        assert len(store._active_index._known) <= 3


async def test_a_hold_whose_answer_does_not_come_can_be_repeated(
    store: QdrantStore, met: MetAtCalls, other: QdrantStore
) -> None:
    async def fail_when_it_is_looked_at() -> None:
        met.before["get_collection"] = fail

    for hook in (fail, fail_when_it_is_looked_at):
        met.after[HOLD] = hook
        with pytest.raises(StoreUnavailable):
            await store.hold(SCOPE, LEASE_S)
        with pytest.raises(Conflict, match="held back"):
            await other.hold(SCOPE, LEASE_S)
        held = await store.hold(SCOPE, LEASE_S)
        await store.release(SCOPE, held)
    held = await store.hold(SCOPE, LEASE_S)
    with pytest.raises(Conflict, match="held back"):  # nothing was in doubt
        await store.hold(SCOPE, LEASE_S)
    await store.switch(FINE, held)
