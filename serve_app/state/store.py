"""Small durable control data: releases, rollouts, flags, consents, keys. One Protocol, kept in SQLite or in Redis.

A store counts its changes in one number, the revision. Each change takes the next one. The revision is the version of
the key that changed, the position in the feed of changes, and the token of a lease. So versions and tokens only ever
rise, also when a key is deleted and created again, or a lease passes to another holder.

Leases: Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989. Fencing tokens: Burrows, "The Chubby lock service for loosely-coupled distributed systems", OSDI 2006 (there
called sequencers), and Kleppmann, "How to do distributed locking", 2016: a holder can be stopped for longer than its
lease without noticing, so the store checks the token of each write and does not trust the writer's belief.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from serve_app.errors import InvalidInput

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 64 * 1024  # a page of the largest values is 64 MiB
MAX_PAGE = 1_000
MIN_TTL_S, MAX_TTL_S = 0.01, 86_400.0
DELETIONS_KEPT = 10_000  # a reader who missed more than this must read everything again


@dataclass(frozen=True, slots=True)
class StateEntry:
    key: str
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """The newest state of a key. value: None if the key was deleted."""

    key: str
    value: bytes | None
    version: int


@dataclass(frozen=True, slots=True)
class ChangeFeed:
    """A page of the feed. cursor: pass it to the next call.

    is_gap: the feed does not reach back to the cursor that was given. `changes` is empty, and the reader must list all
    entries before it goes on from `cursor`."""

    changes: tuple[StateChange, ...]
    cursor: int
    is_gap: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """token: higher than that of every earlier lease, of this and of all other names."""

    name: str
    token: int
    ttl_s: float


class Refusal(enum.Enum):
    VERSION = "the key does not have the expected version"
    LEASE = "the lease that the write depends on has ended"


@dataclass(frozen=True, slots=True)
class Written:
    version: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed."""

    reason: Refusal


class StateStore(Protocol):
    """Every method is atomic and sees every change that was acknowledged before it began, from whatever process.

    Every method raises StateUnavailable if the store does not answer in time. A change that ended so may or may not
    have been made: read the key to find out. Every method raises InvalidInput for a key, value, page size or time to
    live that is out of bounds (the constants of this module).

    A Redis that loses acknowledged writes (a failover, a restart without `appendfsync always`) loses entries and
    leases with them; `RedisState` says what still holds then."""

    async def get(self, key: str) -> StateEntry | None: ...

    async def list_prefix(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE) -> list[StateEntry]:
        """The first `limit` entries whose key starts with `prefix` and comes after `after`, ordered by key (by its
        UTF-8 bytes). A page is one snapshot. Pages that follow each other are not: `changes` tells what changed in
        between."""
        ...

    async def compare_and_set(
        self, key: str, value: bytes, *, expected: int | None, fence: Lease | None = None
    ) -> Written | Refused:
        """Write `value` if the key has the version `expected`; None expects that there is no such key.

        The new version is higher than every version that the key ever had. With `fence`, the write is refused once
        that lease has ended: it expired, was released, or another holder took it. The store checks this in the same
        step as the write, so a holder that was stopped past its lease changes nothing when it goes on."""
        ...

    async def delete(self, key: str, *, expected: int, fence: Lease | None = None) -> Written | Refused:
        """Delete the key if it has the version `expected`. The deletion has a version of its own."""
        ...

    async def changes(self, since: int, *, limit: int = MAX_PAGE) -> ChangeFeed:
        """The keys that changed after the cursor `since`, in the order of their newest versions.

        A key that changed several times appears once, with its newest state: the feed is complete in keys, not in
        versions. Deletions are kept for the newest DELETIONS_KEPT deleted keys. A reader starts with cursor 0, which
        always answers with a gap: it lists all entries and goes on from the cursor of that answer. Cursors stay valid
        when processes restart. The page is the last one for now when it holds fewer than `limit` changes."""
        ...

    async def acquire(self, name: str, ttl_s: float) -> Lease | None:
        """A lease for `ttl_s` seconds, or None while another one of this name lasts. Time is that of the store's own
        clock, not of the caller's."""
        ...

    async def renew(self, lease: Lease) -> bool:
        """Let the lease last `ttl_s` seconds from now. False if it has ended: the holder must stop its work."""
        ...

    async def release(self, lease: Lease) -> bool:
        """End the lease. False if it had ended before."""
        ...

    async def close(self) -> None: ...


def encoded_key(key: str) -> bytes:
    """Raises InvalidInput."""
    encoded = _encoded(key)
    if not encoded:
        raise InvalidInput("a key of the state must not be empty")
    return encoded


def key_range(prefix: str, after: str) -> tuple[bytes, bytes, bytes]:
    """Bounds for the keys of a page: at least the first, above the second, below the third. Raises InvalidInput."""
    lowest = _encoded(prefix)
    return lowest, _encoded(after), lowest + b"\xff"  # a byte that UTF-8 never uses


def _encoded(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a key of the state must be valid Unicode: {error}") from error
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidInput(f"a key of the state may have {MAX_KEY_BYTES} bytes in UTF-8, not {len(encoded)}")
    return encoded


def require_value(value: bytes) -> None:
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput(f"a value of the state may have {MAX_VALUE_BYTES} bytes, not {len(value)}")


def require_page(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"a page of the state has 1 to {MAX_PAGE} items, not {limit}")


def require_ttl(ttl_s: float) -> None:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidInput(f"a lease lasts {MIN_TTL_S:g} to {MAX_TTL_S:g} s, not {ttl_s:g}")
