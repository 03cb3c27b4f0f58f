"""The Protocols of a tier, a single store of cache entries. `Tiered` depends on these only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from serve_app.cache.entry import Entry

Clock = Callable[[], float]  # seconds since 1970 UTC: an entry outlives its process and is read on other machines
utc_s: Clock = time.time


@dataclass(frozen=True, slots=True)
class TierUsage:
    """bytes: the size that limit_bytes bounds. limit_bytes: 0 if the tier's server has no limit."""

    bytes: int
    entries: int
    limit_bytes: int


class Tier(Protocol):
    """Any method raises Unavailable if the tier cannot answer. A tier may drop any entry at any time. An entry that it
    returns is the last one put under its key, and has not expired."""

    @property
    def name(self) -> str:
        """ "l1" … "l4", as in the `cache` field of an answer."""
        ...

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries found. Missing keys are left out."""
        ...

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        """Store the entries, each for the tier's time to live at most. If one is too large for the tier, it is not
        stored, and an earlier entry with its key is deleted."""
        ...

    async def clear(self) -> None:
        """Delete every entry, for every process that shares the tier."""
        ...

    async def usage(self) -> TierUsage: ...

    async def close(self) -> None: ...


@runtime_checkable
class ImmediateTier(Tier, Protocol):
    """A tier in this machine's memory: a read takes microseconds, less than a switch to another thread or task."""

    def get_now(self, key: bytes) -> Entry | None:
        """None for a miss; never raises."""
        ...
