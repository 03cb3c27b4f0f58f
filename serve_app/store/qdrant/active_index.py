"""The active index of a collection on a Qdrant server, which an alias of the server names.

    tenant~collection               the first index
    tenant~collection~index         any other index
    tenant~collection~.active       alias of the active index; without it, the first index is active

An alias must not have the name of a collection, so the name of the first index cannot be the alias. The server moves
an alias atomically.

A hold keeps writes back. It is stored in the active index's metadata, with the time at which it ends. Every write
reads this metadata before it begins and again before it is acknowledged. If it has changed, the write is repeated on
the index that is then active. A switch changes the metadata of both indexes: the old one keeps the hold, and the new
one gets the time from which it accepts writes. So the new index has every acknowledged write, provided that
- all clocks agree to within CLOCK_SKEW_S,
- every node sees a hold once the call that made it has returned, and
- the server completes a call that timed out within another timeout, or never. (If the response to a switch is late,
  only the duration of the hold keeps writes away from it.)

Searches read the alias again after ACTIVE_INDEX_TTL_S. A new active index therefore accepts no writes for that long
after the switch: when it acknowledges its first write, every process knows that it is active.

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

ACTIVE_INDEX_TTL_S = 5.0  # how long a search may use the old index after another process switched
CLOCK_SKEW_S = 1.0
MAX_KNOWN = 10_000  # collections in each cache; bounded because users may send any number of names
HELD_POLL_S = 0.1  # how often a write that is held back tries again
FENCE_CALLS = 3  # timeouts that a fence lasts: a call before the protected call, the protected call, its late end
INDEX, HOLD, OPENS = "index", "hold", "opens_s"  # keys in a collection's metadata


def physical_name(scope: Scope) -> str:
    """The name of the index's collection on the server. No other code builds it. No tenant's, collection's or index's
    name contains `~`."""
    assert scope.index, "the scope must name an index"
    return f"{scope.tenant}~{scope.collection}" + (f"~{scope.index}" if scope.index != FIRST_INDEX else "")


def alias_name(scope: Scope) -> str:
    return f"{scope.tenant}~{scope.collection}~.active"


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index and the server's description of its collection. `info` is None if the collection does not exist."""

    index: Scope
    info: models.CollectionInfo | None

    @property
    def is_held(self) -> bool:
        """Whether writes are held back now, by a holder or because the index has just become active."""
        metadata = metadata_of(self.info)
        return time.time() < max(float((metadata.get(HOLD) or {}).get("until_s", 0.0)), metadata.get(OPENS, 0.0))


class QdrantActiveIndex:
    def __init__(self, client: AsyncQdrantClient, ask: QdrantCalls) -> None:
        self._client = client
        self._ask = ask
        self._known: dict[Scope, tuple[Scope, float]] = {}  # active index, and the time until which it is valid
        self._forgotten = 0  # how often `forget` was called
        self._tried: dict[Scope, str] = {}  # holders whose call to `hold` got no response
        self._in_doubt: set[str] = set()  # holders whose fenced call got no response

    async def resolve(self, scope: Scope, *, fresh: bool = False) -> Scope:
        """The scope with an index's name: its own, or the index that was active at most ACTIVE_INDEX_TTL_S ago. No
        other code resolves the active index for reads. The index may not exist."""
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
        """The active index now. It takes one call, or two if the first index is active, which has no alias. The first
        index is read before the alias, so that `is_unchanged` notices a switch between the two calls."""
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
        """The active index. Waits while its writes are held back."""
        while True:
            state = await self.state(scope)
            if not state.is_held:
                return state
            await asyncio.sleep(HELD_POLL_S)

    async def is_unchanged(self, state: IndexState) -> bool:
        """Whether this index has been active ever since `wait_until_open` returned it, and no hold has begun. Then its
        metadata is unchanged. Reads through the alias if there is one, because that may name another index by now."""
        if state.info is None:
            return False
        name = physical_name(state.index) if state.index.index == FIRST_INDEX else alias_name(state.index)
        return metadata_of(await self._info(name)) == metadata_of(state.info)

    def _remember(self, index: Scope, begun_s: float, forgotten: int) -> None:
        if forgotten == self._forgotten:  # else this result may be outdated
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[index.at("")] = index, begun_s + ACTIVE_INDEX_TTL_S

    def forget(self, scope: Scope) -> Scope:
        """Forget which index is active. Returns the index that was cached as active."""
        self._forgotten += 1
        known, _ = self._known.pop(scope.at(""), (scope.at(FIRST_INDEX), 0.0))
        return known

    async def activate(self, scope: Scope) -> None:
        """Make this index the active one, atomically. Its writes wait until every process knows."""
        await self._open_in(scope, self.fence_s + ACTIVE_INDEX_TTL_S)  # the next call may complete late
        alias = alias_name(scope)
        operation: models.AliasOperations
        if scope.index == FIRST_INDEX:
            operation = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        else:
            create = models.CreateAlias(collection_name=physical_name(scope), alias_name=alias)
            operation = models.CreateAliasOperation(create_alias=create)
        await self._ask(self._client.update_collection_aliases, change_aliases_operations=[operation])
        self.forget(scope)
        with contextlib.suppress(StoreUnavailable):  # activated; it only opens later
            await self._open_in(scope, ACTIVE_INDEX_TTL_S + CLOCK_SKEW_S)

    async def hold(self, index: Scope, lease_s: float) -> str:
        """Hold the index's writes back. Returns the holder. Raises Conflict while another holder has the hold. After
        StoreUnavailable, repeat the call: it uses the same holder."""
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
        if (await self._hold(index)).get("holder") != holder:  # of two concurrent calls the later wins
            raise already_held()
        if await self.resolve(index.at(""), fresh=True) != index:  # switched in between
            await self.release(index, holder)
            raise already_held()

    @property
    def fence_s(self) -> float:
        return FENCE_CALLS * self._ask.timeout_s + CLOCK_SKEW_S

    @contextlib.asynccontextmanager
    async def fenced(self, index: Scope, holder: str) -> AsyncIterator[None]:
        """A context for a call that may run only while this holder holds writes back, and at most one call before it.
        Extends the hold for longer than these calls can take. If the call gets no response, it may still complete; the
        hold then lasts to its end, and `release` does nothing. Raises Conflict if the hold has ended."""
        await self._extend(index, holder)
        self._in_doubt.add(holder)
        try:
            yield
        except StoreUnavailable:
            raise
        except PlatformError:  # the server says that nothing was done
            self._in_doubt.discard(holder)
            raise
        self._in_doubt.discard(holder)

    async def _extend(self, index: Scope, holder: str) -> None:
        """Extend the hold to `fence_s` from now, without a gap in which a write could begin."""
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
        """The server's description; None if there is no such collection. name: of a collection or an alias."""
        try:
            return await self._ask(self._client.get_collection, collection_name=name)
        except NotFound:
            return None


def metadata_of(info: models.CollectionInfo | None) -> dict[str, Any]:
    return (info and info.config.metadata) or {}


def index_of(scope: Scope, info: models.CollectionInfo) -> Scope:
    """The scope of the index that the alias names. info: read through the alias."""
    return scope.at(str(metadata_of(info)[INDEX]))


def require_holder(hold: dict[str, Any], holder: str) -> dict[str, Any]:
    if hold.get("holder") != holder:
        raise hold_is_over()
    return hold


def require_before(end_s: float) -> None:
    """Raises Conflict unless it is before `end_s` on the clock of every process."""
    if time.time() > end_s - CLOCK_SKEW_S:
        raise hold_is_over()
