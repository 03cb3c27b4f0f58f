"""Several tiers, nearest first, as one cache: read in order, written together, with promotion of frequent entries."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from serve_app.cache.entry import Entry, EntryKind, negative
from serve_app.cache.promotion import Cost, FrequencySketch, worthwhile
from serve_app.cache.seen import SeenKeys
from serve_app.cache.tiers.tier import Clock, ImmediateTier, Tier, TierUsage, utc_s
from serve_app.cache.write_behind import WriteBehind
from serve_app.errors import PlatformError
from serve_app.flow.single_flight import SingleFlight
from serve_app.telemetry.catalogue.cache import (
    CACHE_HIT_RATIO,
    CACHE_JOINED,
    CACHE_LOOKUPS,
    CACHE_PROMOTIONS,
    CACHE_REPEATED_MISSES,
    CACHE_WRITES_DROPPED,
)
from serve_app.telemetry.meter import CountedSeries, Meter
from serve_app.types import Lane

MISS = "miss"
CLOSE_TIMEOUT_S = 5.0
WRITE_PAUSE_S = 0.05  # how long entries gather before they are written to the tiers behind the first


@dataclass(frozen=True, slots=True)
class CachedPayload:
    """payload: the value. tier: the name of the tier that had it, or MISS if it was computed for this call."""

    payload: bytes
    tier: str


class Tiered:
    """Tiers outside this process's memory must be guarded (`tiers.guarded`), so that reads and writes never raise.

    A key is a digest of everything that determines its entry (`keys`), so an entry is either right or absent. A read
    returns the entry of the first tier that has it. A remembered error is raised again. Belongs to one event loop;
    call `close` there. meter: None if nobody reads the counts.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        meter: Meter | None = None,
        *,
        negative_ttl_s: float = 10.0,
        clock: Clock = utc_s,
    ) -> None:
        self._tiers = tuple(tiers)
        immediate = [isinstance(tier, ImmediateTier) for tier in self._tiers] + [False]
        self._nearest = tuple(tier for tier in self._tiers[: immediate.index(False)] if isinstance(tier, ImmediateTier))
        self._costs = [Cost() for _ in self._tiers]
        self._negative_ttl_s = negative_ttl_s
        self._clock = clock
        self._asked = FrequencySketch()
        self._seen = SeenKeys()
        self._flights: SingleFlight[tuple[Lane, bytes], CachedPayload] = SingleFlight()
        self._writers = [
            WriteBehind(partial(self._put_one, number), WRITE_PAUSE_S if number else 0)
            for number in range(len(self._tiers))
        ]
        self._meter = meter or Meter()
        self._hits = {kind: [self._hits_of(kind, tier) for tier in self._tiers] for kind in EntryKind}
        for kind in EntryKind:
            self._meter.watch(CACHE_HIT_RATIO, partial(self._hit_ratio, kind), kind=kind)

    def get_now(self, kind: EntryKind, key: bytes) -> CachedPayload | None:
        """Read the first tier, if it is immediate: takes a microsecond and never waits. None only means that this tier
        does not have the entry, and is not counted; call `get` or `get_or_compute` next. Raises a remembered error."""
        if not self._nearest:
            return None
        entry = self._nearest[0].get_now(key)
        return None if entry is None or entry.kind is not kind else self._hit(entry, 0)

    async def get(self, kind: EntryKind, key: bytes) -> CachedPayload | None:
        """None for a miss. Raises the error that is remembered for this key: NotFound or InvalidInput."""
        found = self.get_now(kind, key)
        return found if found is not None else await self._lookup(kind, key)

    async def get_many(self, kind: EntryKind, keys: Sequence[bytes]) -> dict[bytes, CachedPayload]:
        """The values of the keys that were found. Misses and remembered errors are left out."""
        found: dict[bytes, CachedPayload] = {}
        for key, (entry, number) in (await self._find(kind, keys)).items():
            with contextlib.suppress(PlatformError):
                found[key] = self._hit(entry, number)
        return found

    async def put(self, kind: EntryKind, key: bytes, payload: bytes) -> None:
        """Write to every tier, and return when each has stored the entry or refused it."""
        await self.put_many(kind, {key: payload})

    async def put_many(self, kind: EntryKind, payloads: Mapping[bytes, bytes]) -> None:
        await self._put({key: Entry(kind, payload) for key, payload in payloads.items()}, range(len(self._tiers)))

    def put_soon(self, kind: EntryKind, payloads: Mapping[bytes, bytes]) -> None:
        """Like `put_many`, but does not wait. A tier that cannot keep up drops entries."""
        self._put_later({key: Entry(kind, payload) for key, payload in payloads.items()}, range(len(self._tiers)))

    async def get_or_compute(
        self,
        kind: EntryKind,
        key: bytes,
        compute: Callable[[], Coroutine[Any, Any, bytes]],
        lane: Lane = Lane.INTERACTIVE,
    ) -> CachedPayload:
        """The cached value, else the result of `compute`, which runs once for all concurrent callers of this key and
        lane: an interactive caller does not wait for a computation in the bulk lane. The first tier has the value
        before this returns, the others soon after. Raises what `compute` raises; NotFound and InvalidInput are
        remembered for `negative_ttl_s`."""
        found = self.get_now(kind, key)
        return found if found is not None else await self.compute_once(kind, key, compute, lane)

    async def compute_once(
        self,
        kind: EntryKind,
        key: bytes,
        compute: Callable[[], Coroutine[Any, Any, bytes]],
        lane: Lane = Lane.INTERACTIVE,
    ) -> CachedPayload:
        """As `get_or_compute`, for a caller whose `get_now` has just found nothing."""
        if (lane, key) in self._flights:
            self._meter.count(CACHE_JOINED, kind=kind)
        return await self._flights.run((lane, key), lambda: self._get_or_compute(kind, key, compute))

    async def _get_or_compute(
        self, kind: EntryKind, key: bytes, compute: Callable[[], Awaitable[bytes]]
    ) -> CachedPayload:
        found = await self._lookup(kind, key)
        if found is not None:
            return found
        try:
            payload = await compute()
        except PlatformError as error:
            entry = negative(kind, error, self._clock() + self._negative_ttl_s)
            if entry is not None:  # short-lived, so only the nearest tiers hold it
                await self._put({key: entry}, range(len(self._nearest)))
            raise
        entries = {key: Entry(kind, payload)}
        await self._put(entries, range(min(1, len(self._tiers))))
        self._put_later(entries, range(1, len(self._tiers)))
        return CachedPayload(payload, MISS)

    async def _lookup(self, kind: EntryKind, key: bytes) -> CachedPayload | None:
        found = (await self._find(kind, [key])).get(key)
        return None if found is None else self._hit(*found)

    def _hit(self, entry: Entry, number: int) -> CachedPayload:
        self._hits[entry.kind][number].add()
        error = entry.error()
        if error is not None:
            raise error
        return CachedPayload(entry.payload, self._tiers[number].name)

    def _hits_of(self, kind: EntryKind, tier: Tier) -> CountedSeries:
        return self._meter.series(CACHE_LOOKUPS, kind=kind, tier=tier.name, outcome="hit")

    def _misses(self, kind: EntryKind) -> CountedSeries:
        return self._meter.series(CACHE_LOOKUPS, kind=kind, tier="all", outcome="miss")

    def _hit_ratio(self, kind: EntryKind) -> float | None:
        """Hits over lookups; None before the first lookup."""
        hits = sum(series.total for series in self._hits[kind])
        lookups = hits + self._misses(kind).total
        return hits / lookups if lookups else None

    async def _find(self, kind: EntryKind, keys: Sequence[bytes]) -> dict[bytes, tuple[Entry, int]]:
        """Each entry found, with its tier's number. Counts the misses."""
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
        self._misses(kind).add(len(missing))
        self._meter.count(CACHE_REPEATED_MISSES, sum(self._seen.add(key) for key in missing), kind=kind)
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
                self._meter.count(CACHE_PROMOTIONS, len(worthy), tier=self._tiers[nearer].name)
                self._put_later(worthy, range(nearer, nearer + 1))

    def _put_later(self, entries: Mapping[bytes, Entry], numbers: range) -> None:
        for number in numbers:
            if not self._writers[number].add(entries):
                self._meter.count(CACHE_WRITES_DROPPED, len(entries), tier=self._tiers[number].name)

    async def _put(self, entries: Mapping[bytes, Entry], numbers: range) -> None:
        await asyncio.gather(*(self._put_one(number, entries) for number in numbers))

    async def _put_one(self, number: int, entries: Mapping[bytes, Entry]) -> None:
        started_s = time.perf_counter()
        await self._tiers[number].put_many(entries)
        self._costs[number].observe_put((time.perf_counter() - started_s) / max(1, len(entries)))

    async def clear(self) -> None:
        """Delete every entry in every tier. Raises Unavailable if a tier fails."""
        await self.flush(CLOSE_TIMEOUT_S)
        await asyncio.gather(*(tier.clear() for tier in self._tiers))

    async def usage(self) -> dict[str, TierUsage | PlatformError]:
        """By the tier's name. The value is an error if the tier does not answer."""
        answers = await asyncio.gather(*(tier.usage() for tier in self._tiers), return_exceptions=True)
        usage: dict[str, TierUsage | PlatformError] = {}
        for tier, answer in zip(self._tiers, answers, strict=True):
            if not isinstance(answer, TierUsage | PlatformError):
                raise answer
            usage[tier.name] = answer
        return usage

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the entries of `put_soon` are written. After `timeout_s` the rest is dropped."""
        await asyncio.gather(*(writer.flush(timeout_s) for writer in self._writers))

    async def close(self) -> None:
        """Write the waiting entries for at most CLOSE_TIMEOUT_S, then close the tiers."""
        await self.flush(CLOSE_TIMEOUT_S)
        await asyncio.gather(*(tier.close() for tier in self._tiers))
