"""A cache entry, and its format outside of this process: raw bytes and a checksum, never pickle. Pure.

 0  magic "aidC"          4 bytes
 4  format                1 byte    FORMAT
 5  kind                  1 byte    EntryKind
 6  outcome               1 byte    EntryOutcome
 7  zero                  1 byte
 8  expires at            8 bytes   float64, seconds since 1970 UTC
16  CRC-32                4 bytes   of the key, bytes 0–15 and the payload
20  payload               the rest
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self

from serve_app.errors import InvalidInput, NotFound, PlatformError

MAGIC, FORMAT = b"aidC", 1
HEADER = struct.Struct("<4sBBBxd")
CHECKSUM = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CHECKSUM.size


class EntryKind(StrEnum):
    EMBEDDING = "embedding"
    RESULT = "result"

    __hash__ = str.__hash__  # every hit is counted by kind, and Enum's own hash is a slower Python function


class EntryOutcome(IntEnum):
    """An entry holds a value, or an error that every repetition of the request would get again."""

    VALUE = 0
    NOT_FOUND = 1
    INVALID_INPUT = 2


KINDS = (EntryKind.EMBEDDING, EntryKind.RESULT)  # their index is the number in an entry, so only append
ERRORS: dict[EntryOutcome, type[PlatformError]] = {
    EntryOutcome.NOT_FOUND: NotFound,
    EntryOutcome.INVALID_INPUT: InvalidInput,
}
OUTCOMES = {cls: outcome for outcome, cls in ERRORS.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """payload: the value, or an error's message in UTF-8. expires_at_s: seconds since 1970 UTC. A tier may drop the
    entry earlier, and never returns it later."""

    kind: EntryKind
    payload: bytes
    expires_at_s: float = math.inf
    outcome: EntryOutcome = EntryOutcome.VALUE

    def until(self, expires_at_s: float) -> Self:
        """The same entry, which expires at `expires_at_s` at the latest."""
        if self.expires_at_s <= expires_at_s:
            return self
        return type(self)(self.kind, self.payload, expires_at_s, self.outcome)

    def error(self) -> PlatformError | None:
        """The error that this entry holds; None if it holds a value."""
        if self.outcome is EntryOutcome.VALUE:
            return None
        return ERRORS[self.outcome](self.payload.decode("utf-8", "replace"))


def negative(kind: EntryKind, error: PlatformError, expires_at_s: float) -> Entry | None:
    """An entry that holds `error`. None for an error that may not occur at the next try, and for a class that has no
    EntryOutcome."""
    outcome = OUTCOMES.get(type(error))
    return None if outcome is None else Entry(kind, str(error).encode("utf-8", "replace"), expires_at_s, outcome)


def encode(key: bytes, entry: Entry) -> bytes:
    header = HEADER.pack(MAGIC, FORMAT, KINDS.index(entry.kind), entry.outcome, entry.expires_at_s)
    return b"".join((header, CHECKSUM.pack(checksum(key, header, entry.payload)), entry.payload))


def decode(key: bytes, content: bytes | memoryview, now_s: float) -> Entry | None:
    """None if the content is damaged, cut off, expired, of another format, or stored for another key."""
    if len(content) < HEADER_BYTES:
        return None
    magic, version, kind, outcome, expires_at_s = HEADER.unpack_from(content)
    if magic != MAGIC or version != FORMAT or not expires_at_s > now_s:
        return None
    view = memoryview(content)
    payload = view[HEADER_BYTES:]
    if CHECKSUM.unpack_from(content, HEADER.size)[0] != checksum(key, view[: HEADER.size], payload):
        return None
    if kind >= len(KINDS) or outcome >= len(EntryOutcome):
        return None
    return Entry(KINDS[kind], bytes(payload), expires_at_s, EntryOutcome(outcome))


def checksum(key: bytes, header: bytes | memoryview, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(header, zlib.crc32(key)))
