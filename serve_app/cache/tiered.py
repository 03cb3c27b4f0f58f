"""Several tiers, nearest first, as one cache: looked through in order, filled together, promoted by benefit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from serve_app.cache.counters import CacheCounters
from serve_app.cache.entry import Entry, Kind, negative
from serve_app.cache.promotion import Cost, FrequencySketch, worthwhile
from serve_app.cache.seen import SeenKeys
from serve_app.cache.tiers.guarded import GuardedTier
from serve_app.cache.tiers.tier import Clock, ImmediateTier, Tier, Usage, utc_s
from serve_app.cache.write_behind import WriteBehind
from serve_app.errors import PlatformError
from serve_app.flow.single_flight import SingleFlight
from serve_app.types import Lane

MISS = "miss"
CLOSE_TIMEOUT_S = 5.0
WRITE_PAUSE_S = 0.05  # entries gather for so long before they go to the tiers behind the first


@dataclass(frozen=True, slots=True)
class Found:
    """payload: what was put. tier: the name of the one that had it, or MISS for what has just been computed."""

    payload: bytes
    tier: str


class Tiered:
    """Tiers behind a process's own memory are guarded ones (`breaker.guard`), which never raise.

    A key names the content of its entry (`keys`), so an entry is either right or absent. Reads find an entry in the
    first tier that has it. A remembered error is raised again. Belongs to one event loop; call `close` there.
    guarded: the tiers that may be left out for a while.
    """

    def __init__(self, tiers: Sequence[Tier], *, negative_ttl_s: float = 10.0, clock: Clock = utc_s) -> None:
        self._tiers = tuple(tiers)
        immediate = [isinstance(tier, ImmediateTier) for tier in self._tiers] + [False]
        self._nearest = tuple(tier for tier in self._tiers[: immediate.index(False)] if isinstance(tier, ImmediateTier))
        self._costs = [Cost() for _ in self._tiers]
        self._negative_ttl_s = negative_ttl_s
        self._clock = clock
        self._asked = FrequencySketch()
        self._seen = SeenKeys()
        self._flights: SingleFlight[tuple[Lane, bytes], Found] = SingleFlight()
        self._writers = [
            WriteBehind(partial(self._put_one, number), WRITE_PAUSE_S if number else 0)
            for number in range(len(self._tiers))
        ]
        self.counters = CacheCounters()
        self.guarded = tuple(tier for tier in self._tiers if isinstance(tier, GuardedTier))

    def get_now(self, kind: Kind, key: bytes) -> Found | None:
        """From the first tier, if it is immediate: a microsecond, no waiting. None says nothing about the tiers behind,
        and is not counted: go on with `get` or `get_or_compute`. Raises the error that is remembered."""
        if not self._nearest:
            return None
        entry = self._nearest[0].get_now(key)
        return None if entry is None or entry.kind is not kind else self._hit(entry, 0)

    async def get(self, kind: Kind, key: bytes) -> Found | None:
        """Raises the error that is remembered for this key: NotFound or InvalidInput."""
        found = self.get_now(kind, key)
        return found if found is not None else await self._look(kind, key)

    async def get_many(self, kind: Kind, keys: Sequence[bytes]) -> dict[bytes, Found]:
        """The values that are there. A remembered error is left out, as is what is not there."""
        found: dict[bytes, Found] = {}
        for key, (entry, number) in (await self._find(kind, keys)).items():
            with contextlib.suppress(PlatformError):
                found[key] = self._hit(entry, number)
        return found

    async def put(self, kind: Kind, key: bytes, payload: bytes) -> None:
        """Into every tier; on return each has it, or has refused it."""
        await self.put_many(kind, {key: payload})

    async def put_many(self, kind: Kind, payloads: Mapping[bytes, bytes]) -> None:
        await self._put({key: Entry(kind, payload) for key, payload in payloads.items()}, range(len(self._tiers)))

    def put_soon(self, kind: Kind, payloads: Mapping[bytes, bytes]) -> None:
        """As `put_many`, without waiting; a tier that is too slow for all that comes leaves some out."""
        self._put_later({key: Entry(kind, payload) for key, payload in payloads.items()}, range(len(self._tiers)))

    async def get_or_compute(
        self,
        kind: Kind,
        key: bytes,
        compute: Callable[[], Coroutine[Any, Any, bytes]],
        lane: Lane = Lane.INTERACTIVE,
    ) -> Found:
        """What is kept, else what `compute` answers, once for all who ask meanwhile in this lane: whoever waits does
        not join what is behind an upload. It is kept in the first tier before it is answered, in the others soon
        after. Raises what `compute` raises; NotFound and InvalidInput are remembered for `negative_ttl_s`."""
        found = self.get_now(kind, key)
        if found is not None:
            return found
        self.counters.joined[kind] += (lane, key) in self._flights
        return await self._flights.run((lane, key), lambda: self._get_or_compute(kind, key, compute))

    async def _get_or_compute(self, kind: Kind, key: bytes, compute: Callable[[], Awaitable[bytes]]) -> Found:
        found = await self._look(kind, key)
        if found is not None:
            return found
        try:
            payload = await compute()
        except PlatformError as error:
            entry = negative(kind, error, self._clock() + self._negative_ttl_s)
            if entry is not None:  # short-lived, so near ones only
                await self._put({key: entry}, range(len(self._nearest)))
            raise
        entries = {key: Entry(kind, payload)}
        await self._put(entries, range(min(1, len(self._tiers))))
        self._put_later(entries, range(1, len(self._tiers)))
        return Found(payload, MISS)

    async def _look(self, kind: Kind, key: bytes) -> Found | None:
        found = (await self._find(kind, [key])).get(key)
        return None if found is None else self._hit(*found)

    def _hit(self, entry: Entry, number: int) -> Found:
        name = self._tiers[number].name
        self.counters.hits[name, entry.kind] += 1
        error = entry.error()
        if error is not None:
            raise error
        return Found(entry.payload, name)

    async def _find(self, kind: Kind, keys: Sequence[bytes]) -> dict[bytes, tuple[Entry, int]]:
        """Entries with the number of the tier that had them. Counts the misses."""
        found: dict[bytes, tuple[Entry, int]] = {}
        missing = list(dict.fromkeys(keys))
        for number, tier in enumerate(self._tiers):
            if not missing:
                break
            started_s = time.perf_counter()
            if number < len(self._nearest):
                nearest = self._nearest[number]
                answered = {key: entry for key in missing if (entry := nearest.get_now(key)) is not None}
            else:
                answered = await tier.get_many(missing)
            self._costs[number].observe_get((time.perf_counter() - started_s) / len(missing))
            entries = {key: entry for key, entry in answered.items() if entry.kind is kind}
            found.update((key, (entry, number)) for key, entry in entries.items())
            missing = [key for key in missing if key not in entries]
            if number > 0:
                self._promote(entries, number)
        self.counters.misses[kind] += len(missing)
        self.counters.misses_seen[kind] += sum(self._seen.add(key) for key in missing)
        return found

    def _promote(self, entries: Mapping[bytes, Entry], number: int) -> None:
        asked = {key: self._asked.add(key) for key in entries}
        for nearer in range(number):
            worthy = {
                key: entry
                for key, entry in entries.items()
                if worthwhile(asked[key], self._costs[number], self._costs[nearer])
            }
            if worthy:
                self.counters.promotions[self._tiers[nearer].name] += len(worthy)
                self._put_later(worthy, range(nearer, nearer + 1))

    def _put_later(self, entries: Mapping[bytes, Entry], numbers: range) -> None:
        for number in numbers:
            if not self._writers[number].add(entries):
                self.counters.writes_dropped[self._tiers[number].name] += len(entries)

    async def _put(self, entries: Mapping[bytes, Entry], numbers: range) -> None:
        await asyncio.gather(*(self._put_one(number, entries) for number in numbers))

    async def _put_one(self, number: int, entries: Mapping[bytes, Entry]) -> None:
        started_s = time.perf_counter()
        await self._tiers[number].put_many(entries)
        self._costs[number].observe_put((time.perf_counter() - started_s) / max(1, len(entries)))

    async def clear(self) -> None:
        """Forget everything, in every tier. Raises Unavailable if one of them could not."""
        await self.flush(CLOSE_TIMEOUT_S)
        await asyncio.gather(*(tier.clear() for tier in self._tiers))

    async def usage(self) -> dict[str, Usage | PlatformError]:
        """By tier; the error of one that does not answer."""
        answers = await asyncio.gather(*(tier.usage() for tier in self._tiers), return_exceptions=True)
        usage: dict[str, Usage | PlatformError] = {}
        for tier, answer in zip(self._tiers, answers, strict=True):
            if not isinstance(answer, Usage | PlatformError):
                raise answer
            usage[tier.name] = answer
        return usage

    async def flush(self, timeout_s: float | None = None) -> None:
        """Until every tier has what was put soon."""
        await asyncio.gather(*(writer.flush(timeout_s) for writer in self._writers))

    async def close(self) -> None:
        """What waits to be written is written, if that is quick."""
        await self.flush(CLOSE_TIMEOUT_S)
        await asyncio.gather(*(tier.close() for tier in self._tiers))
