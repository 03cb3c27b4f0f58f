"""The active index of a collection on a Qdrant server, which an alias of the server names.

    tenant~collection               the first index
    tenant~collection~index         any other index
    tenant~collection~.active       alias of the active index; without it, the first index is active

An alias must not have the name of a collection, so the name of the first index cannot be the alias. The server moves
an alias atomically.

A hold keeps writes back. It is stored in the active index's metadata, with the time at which it ends. Every write
reads this metadata before it begins and again before it is acknowledged. If it has changed, the write is repeated on
the index that is active by then. A switch changes the metadata of both indexes: the old one keeps the hold, and the
new one gets the time from which it accepts writes. So the new index has every acknowledged write, provided that
- all clocks agree to within CLOCK_SKEW_S,
- every node sees a hold once the call that made it has returned, and
- the server completes a call that timed out within another timeout, or never. (If the answer to a switch is late, only
  the duration of the hold keeps writes away from it.)

Searches look the active index up every ACTIVE_INDEX_TTL_S. A new active index therefore accepts no writes for that
long after the switch: when it acknowledges its first write, every process knows that it is active.

docs/decisions/0011-state.md says why a hold is not a lease of `state`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import NotFound, PlatformError, StoreUnavailable
from serve_app.store.indexes import already_held, hold_is_over
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.types import FIRST_INDEX, Scope

ACTIVE_INDEX_TTL_S = 5.0  # for so long a query may miss that another process activated another index
CLOCK_SKEW_S = 1.0
MAX_KNOWN = 10_000  # collections in each cache; users may ask for any number of names
HELD_POLL_S = 0.1  # how often a write that is held back tries again
FENCE_CALLS = (
    3  # a fence lasts as long as so many calls: one before the call that it protects, and that call, late once
)
INDEX, HOLD, OPENS = "index", "hold", "opens_s"  # keys in a collection's metadata


def physical_name(scope: Scope) -> str:
    """The only place where it is made; `~` is in no tenant's, no collection's and no index's name."""
    assert scope.index, "it must be known which index"
    return f"{scope.tenant}~{scope.collection}" + (f"~{scope.index}" if scope.index != FIRST_INDEX else "")


def alias_name(scope: Scope) -> str:
    return f"{scope.tenant}~{scope.collection}~.active"


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index, and the server's description of its collection; `info` is None if there is no such collection."""

    index: Scope
    info: models.CollectionInfo | None

    @property
    def is_held(self) -> bool:
        """Whether writes are held back now: by a holder, or because the index has only just become active."""
        metadata = metadata_of(self.info)
        return time.time() < max(float((metadata.get(HOLD) or {}).get("until_s", 0.0)), metadata.get(OPENS, 0.0))


class QdrantActiveIndex:
    def __init__(self, client: AsyncQdrantClient, ask: QdrantCalls) -> None:
        self._client = client
        self._ask = ask
        self._known: dict[Scope, tuple[Scope, float]] = {}  # with the time until which this is valid
        self._forgotten = 0  # how often `forget` was called
        self._tried: dict[Scope, str] = {}  # holders of holds that got no answer
        self._in_doubt: set[str] = set()  # holders whose fenced call got no answer

    async def resolve(self, scope: Scope, *, fresh: bool = False) -> Scope:
        """The scope with an index's name: its own, or that of the index that was active at most ACTIVE_INDEX_TTL_S
        ago. No other code turns a collection's name into an index's. The index may not exist."""
        if scope.index:
            return scope
        known, until = self._known.get(scope, (None, 0.0))
        if known is None or fresh or time.monotonic() > until:
            begun_s, forgotten = time.monotonic(), self._forgotten
            by_alias = await self._info(alias_name(scope))
            known = scope.at(FIRST_INDEX) if by_alias is None else index_of(scope, by_alias)
            self._remember(known, begun_s, forgotten)
        return known

    async def state(self, scope: Scope) -> IndexState:
        """The active index now: one call, or two if it is the first index, which has no alias. That one is read before
        the alias turns out to be missing, so that a switch between the two calls shows at the next reading."""
        begun_s, forgotten = time.monotonic(), self._forgotten
        first = scope.at(FIRST_INDEX)
        known, _ = self._known.get(scope, (first, 0.0))
        seen = by_alias = None if known == first else await self._info(alias_name(scope))
        if by_alias is None:
            seen = await self._info(physical_name(first))
            by_alias = await self._info(alias_name(scope))
        state = IndexState(first, seen) if by_alias is None else IndexState(index_of(scope, by_alias), by_alias)
        self._remember(state.index, begun_s, forgotten)
        return state

    async def state_of(self, index: Scope) -> IndexState:
        return IndexState(index, await self._info(physical_name(index)))

    async def wait_until_open(self, scope: Scope) -> IndexState:
        """The active index, once its writes are not held back. Waits for the end of a hold."""
        while True:
            state = await self.state(scope)
            if not state.is_held:
                return state
            await asyncio.sleep(HELD_POLL_S)

    async def is_unchanged(self, state: IndexState) -> bool:
        """Whether the index that `wait_until_open` returned has been active ever since and no hold has begun: then its
        metadata is the same. Reads by the alias if there is one, which may belong to another index by now."""
        if state.info is None:
            return False
        name = physical_name(state.index) if state.index.index == FIRST_INDEX else alias_name(state.index)
        return metadata_of(await self._info(name)) == metadata_of(state.info)

    def _remember(self, index: Scope, begun_s: float, forgotten: int) -> None:
        if forgotten == self._forgotten:  # else it may be of before
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[index.at("")] = index, begun_s + ACTIVE_INDEX_TTL_S

    def forget(self, scope: Scope) -> Scope:
        """Forget which index is active. Returns the one that was thought to be."""
        self._forgotten += 1
        known, _ = self._known.pop(scope.at(""), (scope.at(FIRST_INDEX), 0.0))
        return known

    async def activate(self, scope: Scope) -> None:
        """Make this index the active one, in one step of the server. Its writes wait until every process knows."""
        await self._open_in(scope, self.fence_s + ACTIVE_INDEX_TTL_S)  # it may be done late
        alias = alias_name(scope)
        operation: models.AliasOperations
        if scope.index == FIRST_INDEX:
            operation = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        else:
            create = models.CreateAlias(collection_name=physical_name(scope), alias_name=alias)
            operation = models.CreateAliasOperation(create_alias=create)
        await self._ask(self._client.update_collection_aliases, change_aliases_operations=[operation])
        self.forget(scope)
        with contextlib.suppress(StoreUnavailable):  # it is done, and opens later
            await self._open_in(scope, ACTIVE_INDEX_TTL_S + CLOCK_SKEW_S)

    async def hold(self, index: Scope, lease_s: float) -> str:
        """Raises Conflict while somebody else holds it. If no answer comes, repeat it: the holder stays the same."""
        holder = self._tried.pop(index, None) or uuid.uuid4().hex
        try:
            await self._take(index, holder, lease_s)
        except StoreUnavailable:
            self._tried[index] = holder
            raise
        return holder

    async def _take(self, index: Scope, holder: str, lease_s: float) -> None:
        hold = await self._hold(index)
        if hold.get("holder") != holder and time.time() < float(hold.get("until_s", 0.0)):
            raise already_held()
        await self._set_hold(index, {"holder": holder, "until_s": time.time() + lease_s})
        if (await self._hold(index)).get("holder") != holder:  # of two at once the later one has it
            raise already_held()
        if await self.resolve(index.at(""), fresh=True) != index:  # another one since it was looked up
            await self.release(index, holder)
            raise already_held()

    @property
    def fence_s(self) -> float:
        return FENCE_CALLS * self._ask.timeout_s + CLOCK_SKEW_S

    @contextlib.asynccontextmanager
    async def fenced(self, index: Scope, holder: str) -> AsyncIterator[None]:
        """Around a call that may be done only while writes are held back by this holder, and one before it at most: the
        hold goes on for longer than they can take. If nobody can tell whether it was done, the hold goes on to its
        end, for it may yet be, and `release` does nothing. Raises Conflict if the hold ended before."""
        await self._extend(index, holder)
        self._in_doubt.add(holder)
        try:
            yield
        except StoreUnavailable:
            raise
        except PlatformError:  # the server's own word that nothing was done
            self._in_doubt.discard(holder)
            raise
        self._in_doubt.discard(holder)

    async def _extend(self, index: Scope, holder: str) -> None:
        """Without a gap that a write could slip through."""
        end_s = float(require_holder(await self._hold(index), holder).get("until_s", 0.0))
        require_before(end_s)
        await self._set_hold(index, {"holder": holder, "until_s": time.time() + self.fence_s})
        require_holder(await self._hold(index), holder)
        require_before(end_s)

    async def release(self, index: Scope, holder: str) -> None:
        if holder not in self._in_doubt and (await self._hold(index)).get("holder") == holder:
            await self._set_hold(index, {"holder": holder, "until_s": 0.0})

    async def _hold(self, index: Scope) -> dict[str, Any]:
        return dict(metadata_of(await self._info(physical_name(index))).get(HOLD) or {})

    async def _set_hold(self, index: Scope, hold: dict[str, Any]) -> None:
        await self._ask(self._client.update_collection, collection_name=physical_name(index), metadata={HOLD: hold})

    async def _open_in(self, index: Scope, wait_s: float) -> None:
        opens_s = time.time() + wait_s
        await self._ask(self._client.update_collection, collection_name=physical_name(index), metadata={OPENS: opens_s})

    async def _info(self, name: str) -> models.CollectionInfo | None:
        """name: of a collection or an alias. None if there is none."""
        try:
            return await self._ask(self._client.get_collection, collection_name=name)
        except NotFound:
            return None


def metadata_of(info: models.CollectionInfo | None) -> dict[str, Any]:
    return (info and info.config.metadata) or {}


def index_of(scope: Scope, info: models.CollectionInfo) -> Scope:
    """The scope with the name of the index that the alias led to."""
    return scope.at(str(metadata_of(info)[INDEX]))


def require_holder(hold: dict[str, Any], holder: str) -> dict[str, Any]:
    if hold.get("holder") != holder:
        raise hold_is_over()
    return hold


def require_before(end_s: float) -> None:
    """By every clock."""
    if time.time() > end_s - CLOCK_SKEW_S:
        raise hold_is_over()
