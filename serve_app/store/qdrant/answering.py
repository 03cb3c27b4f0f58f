"""Which index of a collection answers, on a Qdrant server: one of its own aliases says so.

    tenant~collection               the first index
    tenant~collection~index         another one
    tenant~collection~.answers      alias of the one that answers; the first where there is none

An alias cannot have the name of a collection, and that of the first index is taken; hence the third. The server
switches an alias atomically. A hold is in the metadata of the index that answers, with an end by the clock of whoever
looks. Every write looks before it begins and before it is acknowledged, and is done again, be it on another index, if
what it saw has changed by then: a switch leaves its hold in the metadata of the index that it takes the alias from, and
the time from which that may be written in the metadata of the other one. So no acknowledged write is missing from the
index that takes over, as long as clocks are right to CLOCK_SKEW_S, a node knows of a hold when the call that made it
returns, and a call that nobody waits for any more is done within the timeout of a call or never: only the time of the
hold keeps writes from a switch whose answer is late.

Searches look once in ANSWERING_TTL_S. So an index that is let answer takes no writes for as long after the switch: when
the first is acknowledged, nobody takes the former index for the one that answers.
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

ANSWERING_TTL_S = 5.0  # how long a query may miss that another process let another index answer
CLOCK_SKEW_S = 1.0
MAX_KNOWN = 10_000  # collections of which something is remembered; there is no end to names that may be asked for
HELD_POLL_S = 0.1  # by a write that is held back
FENCE_CALLS = 3  # as long as so many may take lasts a fence: for one before the one that counts, which may be late once
INDEX, HOLD, OPENS = "index", "hold", "opens_s"  # keys in a collection's metadata


def physical_name(scope: Scope) -> str:
    """The only place where it is made; `~` is in no tenant's, no collection's and no index's name."""
    assert scope.index, "it must be known which index"
    return f"{scope.tenant}~{scope.collection}" + (f"~{scope.index}" if scope.index != FIRST_INDEX else "")


def alias_name(scope: Scope) -> str:
    return f"{scope.tenant}~{scope.collection}~.answers"


@dataclass(frozen=True, slots=True)
class Look:
    """An index, and what the server says of its collection; None if there is none."""

    index: Scope
    info: models.CollectionInfo | None

    @property
    def is_held(self) -> bool:
        """Whether writes are held back now: by a holder, or since it answers for a moment only."""
        metadata = metadata_of(self.info)
        return time.time() < max(float((metadata.get(HOLD) or {}).get("until_s", 0.0)), metadata.get(OPENS, 0.0))


class QdrantAnswering:
    def __init__(self, client: AsyncQdrantClient, ask: QdrantCalls) -> None:
        self._client = client
        self._ask = ask
        self._answering: dict[Scope, tuple[Scope, float]] = {}  # with the time after which to look again
        self._forgotten = 0  # times that any was
        self._tried: dict[Scope, str] = {}  # holders, of holds whose answer did not come
        self._in_doubt: set[str] = set()  # holders that do not know what became of what they did

    async def resolve(self, scope: Scope, *, fresh: bool = False) -> Scope:
        """The scope with an index's name: its own, or that of the index that answers, at most ANSWERING_TTL_S ago.
        The one place where a collection's name becomes an index's; such an index may not exist."""
        if scope.index:
            return scope
        known, until = self._answering.get(scope, (None, 0.0))
        if known is None or fresh or time.monotonic() > until:
            begun_s, forgotten = time.monotonic(), self._forgotten
            by_alias = await self._info(alias_name(scope))
            known = scope.at(FIRST_INDEX) if by_alias is None else index_of(scope, by_alias)
            self._remember(known, begun_s, forgotten)
        return known

    async def look(self, scope: Scope) -> Look:
        """At the index that answers now: one call, two where that is the first. This has no alias, and is looked at
        before it is known that there is none, so that a switch between the two shows when it is looked at again."""
        begun_s, forgotten = time.monotonic(), self._forgotten
        first = scope.at(FIRST_INDEX)
        known, _ = self._answering.get(scope, (first, 0.0))
        seen = by_alias = None if known == first else await self._info(alias_name(scope))
        if by_alias is None:
            seen = await self._info(physical_name(first))
            by_alias = await self._info(alias_name(scope))
        look = Look(first, seen) if by_alias is None else Look(index_of(scope, by_alias), by_alias)
        self._remember(look.index, begun_s, forgotten)
        return look

    async def look_at(self, index: Scope) -> Look:
        return Look(index, await self._info(physical_name(index)))

    async def unheld(self, scope: Scope) -> Look:
        """At the index that answers now, and whose writes are not held back; waits for the end of a hold."""
        while True:
            look = await self.look(scope)
            if not look.is_held:
                return look
            await asyncio.sleep(HELD_POLL_S)

    async def is_as_seen(self, look: Look) -> bool:
        """Whether the index that `unheld` gave has answered ever since, and no writes were held back: then nothing of
        its metadata has changed. By the alias where it has one, which may belong to another index by now."""
        if look.info is None:
            return False
        name = physical_name(look.index) if look.index.index == FIRST_INDEX else alias_name(look.index)
        return metadata_of(await self._info(name)) == metadata_of(look.info)

    def _remember(self, index: Scope, begun_s: float, forgotten: int) -> None:
        if forgotten == self._forgotten:  # else it may be of before
            if len(self._answering) >= MAX_KNOWN:
                self._answering.clear()
            self._answering[index.at("")] = index, begun_s + ANSWERING_TTL_S

    def forget(self, scope: Scope) -> Scope:
        """The index that was thought to answer."""
        self._forgotten += 1
        known, _ = self._answering.pop(scope.at(""), (scope.at(FIRST_INDEX), 0.0))
        return known

    async def let_answer(self, scope: Scope) -> None:
        """One step of the server's: it takes an alias from the collection that has it. Writes to this one wait until
        every process knows."""
        await self._open_in(scope, self.fence_s + ANSWERING_TTL_S)  # it may be done late
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
            await self._open_in(scope, ANSWERING_TTL_S + CLOCK_SKEW_S)

    async def hold(self, index: Scope, lease_s: float) -> str:
        """Raises Conflict while another one has it. To be repeated if no answer comes: it is the same holder then."""
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
