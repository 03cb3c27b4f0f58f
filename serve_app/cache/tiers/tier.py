"""The seam: one place that keeps entries. `Tiered` knows these Protocols and no tier by name."""

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
    """bytes: what the limit is about. limit_bytes: 0 where the tier's own server decides."""

    bytes: int
    entries: int
    limit_bytes: int


class Tier(Protocol):
    """Any method raises Unavailable if the tier cannot answer. What it forgets, and when, is its own matter: an entry
    that comes back is the one last put, and has not expired."""

    @property
    def name(self) -> str:
        """ "l1" … "l4": what an answer says of where it came from."""
        ...

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries that are there; a key that is not, is not in the answer."""
        ...

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        """Keep these, each no longer than the tier's own time. One that is too large for the tier is left out, and
        what was kept under its key is gone."""
        ...

    async def clear(self) -> None:
        """Forget everything, for every process that shares the tier."""
        ...

    async def usage(self) -> TierUsage: ...

    async def close(self) -> None: ...


@runtime_checkable
class ImmediateTier(Tier, Protocol):
    """A tier in this machine's memory: a read takes microseconds, less than handing it to anybody would."""

    def get_now(self, key: bytes) -> Entry | None:
        """None for a miss; never raises."""
        ...
