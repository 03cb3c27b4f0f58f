"""Versions of collections in Redis, for a store that many processes write to and that has no versions of its own.

A change begins by giving the collection a new version and registering a writer with a lease. It ends by giving the
collection another version and removing the writer. While there is a writer, the collection has no version: answers that
are computed meanwhile are not cached, and earlier ones are not found. A writer stays registered until its lease ends if
its process dies, if its change fails (a part of it may still reach the store), or if Redis does not answer at its end.

Redis can lose a record (restart, eviction, FLUSHALL), or hold an outdated one (a snapshot, a replica promoted before it
had everything). Then the record is created again, with a new version and with a lease for the writers that it may have
lost. One case is not detected: a primary that is cut off from its replicas while clients still reach it.

Leases after Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989; by Redis's own clock. docs/decisions/0011-state.md says why this does not stand on `state`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis, RedisCluster

from serve_app.cache.keys import version_key
from serve_app.errors import PlatformError, StoreUnavailable, Unavailable
from serve_app.flow.breaker import Guard
from serve_app.flow.rounds import Rounds
from serve_app.redis_client import connect, translated
from serve_app.types import Scope

logger = logging.getLogger(__name__)
Command = tuple[str | bytes | int, ...]

PREFIX = b"aidocs:version:"
VERSION_BYTES = 16
LEASE_S = 75.0
LONGEST_PART = 0.8  # of its lease, after which a change is cancelled
CHANGE_TIMEOUT_S = 2.0  # for one call at the start or the end of a change: longer than for a read, which may fail
KEPT_S = 86_400.0  # a record's time to live after its last use, so that requests for unknown names do not fill Redis

# One hash for each scope, so that Redis loses all of it or nothing: `version`, `history`, and `until:<writer>`, the end
# of a lease in ms since 1970. `history` is Redis's master_replid, which changes at each start and each promotion.
RECORD = """
local key, fresh, lease_ms, kept_ms, writer = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not history then return redis.error_reply('INFO replication has no master_replid') end
if redis.call('HGET', key, 'history') ~= history then
  redis.call('DEL', key)
  redis.call('HSET', key, 'history', history, 'version', fresh, 'until:lost', now_ms + lease_ms)
  redis.call('PEXPIRE', key, kept_ms)
end
local fields = redis.call('HGETALL', key)
local version, busy = nil, false
for i = 1, #fields, 2 do
  if fields[i] == 'version' then
    version = fields[i + 1]
  elseif fields[i] ~= 'history' then
    busy = busy or tonumber(fields[i + 1]) > now_ms
  end
end
"""
CURRENT = f"""{RECORD}
if redis.call('PTTL', key) < kept_ms / 2 then redis.call('PEXPIRE', key, kept_ms) end
return not busy and version
"""
BEGIN = f"""{RECORD}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 6) == 'until:' and tonumber(fields[i + 1]) <= now_ms then
    redis.call('HDEL', key, fields[i])
  end
end
redis.call('HSET', key, 'version', fresh, 'until:' .. writer, now_ms + lease_ms)
redis.call('PEXPIRE', key, kept_ms)
"""
END = f"""{RECORD}
redis.call('HSET', key, 'version', fresh)
redis.call('HDEL', key, 'until:' .. writer)
redis.call('PEXPIRE', key, kept_ms)
"""


class RedisVersions:
    """Implements ports.Versions. timeout_s: for one call of `current`. The first call connects."""

    def __init__(self, client: Redis | RedisCluster, timeout_s: float, *, lease_s: float = LEASE_S) -> None:
        self._client: Any = client  # redis types its commands as sync or async, so every await would need a cast
        self._lease_s = lease_s
        self._guard = Guard("the collections' versions in Redis", timeout_s, self._probe, time.monotonic)
        self._rounds = Rounds(self._current_of)

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> RedisVersions:
        """Raises ConfigurationError if the URL is not a Redis URL."""
        return cls(connect(url, max(CHANGE_TIMEOUT_S, timeout_s)), timeout_s)

    async def current(self, scope: Scope) -> bytes | None:
        return await self._rounds.get(scope)

    @asynccontextmanager
    async def changing(self, scope: Scope) -> AsyncIterator[None]:
        writer, longest_s = os.urandom(VERSION_BYTES).hex(), LONGEST_PART * self._lease_s
        await self._begin(scope, writer)
        try:
            async with asyncio.timeout(longest_s):
                yield
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the change of {scope.collection!r} was cancelled after {longest_s:g} s, and a part of it may be "
                "done: repeat it, with fewer documents in one request if there were many"
            ) from error
        except StoreUnavailable:
            raise  # a part of the change may still reach the store, so the writer stays until its lease ends
        except PlatformError:
            await self._end(scope, writer)
            raise
        await self._end(scope, writer)

    async def close(self) -> None:
        self._guard.stop()
        with translated():
            await self._client.aclose()

    async def _begin(self, scope: Scope, writer: str) -> None:
        try:
            await self._guard.insist(lambda: self._run(BEGIN, scope, writer), CHANGE_TIMEOUT_S)
        except Unavailable as error:
            raise StoreUnavailable(
                f"nothing was changed in {scope.collection!r}, because cached answers could not be invalidated "
                f"({error}): try again when Redis (AIDOCS_REDIS__URL) answers"
            ) from error

    async def _end(self, scope: Scope, writer: str) -> None:
        try:
            await self._guard.insist(lambda: self._run(END, scope, writer), CHANGE_TIMEOUT_S)
        except Unavailable as error:  # no stale answer can follow from this
            logger.warning(
                "a change of a collection is done, but Redis did not record its end (%s): its searches are not cached "
                "for up to %g s",
                error,
                self._lease_s,
            )

    async def _run(self, script: str, scope: Scope, writer: str) -> None:
        """Raises Unavailable."""
        with translated():
            await self._client.execute_command(*self._command(script, scope, writer))

    async def _current_of(self, scopes: Sequence[Scope]) -> dict[Scope, bytes]:
        """Scopes without a version at the moment are left out."""
        versions = await self._guard.call(lambda: self._pipelined([self._command(CURRENT, scope) for scope in scopes]))
        return {scope: version for scope, version in zip(scopes, versions or (), strict=False) if version is not None}

    async def _pipelined(self, commands: Sequence[Command]) -> list[bytes | None]:
        """Raises Unavailable."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)  # a cluster's pipeline has no `eval`
            answers: list[bytes | None] = await pipeline.execute()
        return answers

    def _command(self, script: str, scope: Scope, writer: str = "") -> Command:
        fresh, lease_ms, kept_ms = os.urandom(VERSION_BYTES), int(1000 * self._lease_s), int(1000 * KEPT_S)
        return "EVAL", script, 1, PREFIX + version_key(scope), fresh, lease_ms, kept_ms, writer

    async def _probe(self) -> bool:
        with translated():
            await self._client.ping()
        return True
