"""Small durable control data: releases, rollouts, flags, consents, keys. One Protocol, implemented on SQLite and Redis.

A store counts its changes in one number, the revision. Each change takes the next revision. The revision is the version
of the key that changed, the position in the feed of changes, and the token of a lease. So versions and tokens only
rise, even when a key is deleted and created again, or a lease passes to another holder.

Leases: Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989. Fencing tokens: Burrows, "The Chubby lock service for loosely-coupled distributed systems", OSDI 2006 (there
called sequencers), and Kleppmann, "How to do distributed locking", 2016. A holder can be stopped for longer than its
lease without noticing. So the store checks the token of each write and does not rely on the writer.
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
DELETIONS_KEPT = 10_000  # a reader that missed more deletions than this must read everything again


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

    is_gap: the feed does not reach back to the given cursor. Then `changes` is empty, and the reader must list all
    entries before it continues from `cursor`."""

    changes: tuple[StateChange, ...]
    cursor: int
    is_gap: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """token: higher than the token of every earlier lease of any name."""

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
    """Every method is atomic and sees every change, of any process, that was acknowledged before the call began.

    Every method raises StateUnavailable if the store does not respond in time. A change that raised this may or may
    not have been made: read the key to find out. Every method raises InvalidInput for a key, value, page size or time
    to live that is out of bounds (the constants of this module).

    A Redis that loses acknowledged writes (a failover, a restart without `appendfsync always`) loses entries and
    leases with them. state/redis.py says what still holds then."""

    async def get(self, key: str) -> StateEntry | None: ...

    async def list_prefix(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE) -> list[StateEntry]:
        """The first `limit` entries whose key starts with `prefix` and comes after `after`, ordered by the UTF-8 bytes
        of the key. A page is one snapshot; consecutive pages are not. `changes` returns what changed in between."""
        ...

    async def compare_and_set(
        self, key: str, value: bytes, *, expected: int | None, fence: Lease | None = None
    ) -> Written | Refused:
        """Write `value` if the key has the version `expected`; None expects that the key does not exist.

        The new version is higher than every version that the key ever had. With `fence`, the write is refused once
        that lease has ended: it expired, was released, or another holder took it. The store checks this atomically
        with the write, so a holder that was stopped past its lease changes nothing when it resumes."""
        ...

    async def delete(self, key: str, *, expected: int, fence: Lease | None = None) -> Written | Refused:
        """Delete the key if it has the version `expected`. The deletion has a version of its own."""
        ...

    async def changes(self, since: int, *, limit: int = MAX_PAGE) -> ChangeFeed:
        """The keys that changed after the cursor `since`, in the order of their newest versions.

        A key that changed several times appears once, with its newest state: the feed has every changed key, but not
        every version. It has the newest DELETIONS_KEPT deletions. A reader starts with cursor 0, which always returns
        a gap, lists all entries, and continues from the cursor of that page. Cursors stay valid when processes restart.
        A page with fewer than `limit` changes is the last one for now."""
        ...

    async def acquire(self, name: str, ttl_s: float) -> Lease | None:
        """A lease for `ttl_s` seconds, or None while another lease of this name is valid. The store's clock counts, not
        the caller's."""
        ...

    async def renew(self, lease: Lease) -> bool:
        """Extend the lease to `ttl_s` seconds from now. False if it has ended: the holder must stop its work."""
        ...

    async def release(self, lease: Lease) -> bool:
        """End the lease. False if it has ended already."""
        ...

    async def close(self) -> None: ...


def encoded_key(key: str) -> bytes:
    """The key in UTF-8. Raises InvalidInput if it is empty, too long or not valid Unicode."""
    encoded = _encoded(key)
    if not encoded:
        raise InvalidInput("a key of the state must not be empty")
    return encoded


def key_range(prefix: str, after: str) -> tuple[bytes, bytes, bytes]:
    """Bounds for a page's keys, which are at least the first, above the second and below the third. Raises
    InvalidInput."""
    lowest = _encoded(prefix)
    return lowest, _encoded(after), lowest + b"\xff"  # a byte that UTF-8 never uses


def _encoded(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a key of the state must be valid Unicode: {error}") from error
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidInput(f"a key of the state may have at most {MAX_KEY_BYTES} bytes in UTF-8, not {len(encoded)}")
    return encoded


def require_value(value: bytes) -> None:
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput(f"a value of the state may have at most {MAX_VALUE_BYTES} bytes, not {len(value)}")


def require_page(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"a page of the state has 1 to {MAX_PAGE} items, not {limit}")


def require_ttl(ttl_s: float) -> None:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidInput(f"a lease lasts {MIN_TTL_S:g} to {MAX_TTL_S:g} s, not {ttl_s:g}")
