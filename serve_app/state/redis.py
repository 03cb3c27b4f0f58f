"""State in a Redis server or a Redis Cluster, for processes of many machines.

All keys share one hash tag, so a cluster keeps them on one primary, and each method is one Lua script. Control data is
small, and one primary can take far more writes than it needs.

As long as Redis loses no acknowledged write, everything that StateStore promises holds. Run Redis with `appendonly
yes`, `appendfsync always` and a policy that evicts no key without a time to live (`noeviction` or `volatile-…`). The
log has a warning if Redis runs otherwise.

A failover can lose the newest writes, because Redis replicates after it acknowledges. Entries and leases are then as
they were before those writes, so a lost lease can be granted again while its holder still works. But revisions never
repeat. `master_replid` changes at each start and each promotion, and the first call that finds a new value raises the
revision by LOST_WRITES. So every new token is higher than every old one, the fenced writes of a forgotten holder are
refused, and every old cursor gets a gap. If Redis loses everything, the revision starts from the server's clock in
microseconds, which is above all earlier revisions if the clock is right. A primary that is cut off from its replicas
still acknowledges writes, and these will be lost; `min-replicas-to-write` limits for how long.

Leases run by the Redis server's clock (`TIME`). A clock that is set forward ends leases early. A clock that is set back
to before a lease's begin ends that lease. The fence of each write guards against both.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from redis.asyncio import Redis, RedisCluster

from serve_app.errors import StateUnavailable
from serve_app.redis_client import info_of_primaries, translated
from serve_app.state.store import (
    DELETIONS_KEPT,
    MAX_PAGE,
    ChangeFeed,
    Lease,
    Refusal,
    Refused,
    StateChange,
    StateEntry,
    Written,
    encoded_key,
    key_range,
    require_page,
    require_ttl,
    require_value,
)

logger = logging.getLogger(__name__)
TIMEOUT_S = 2.0  # for one call
LOST_WRITES = 60_000_000  # more than Redis can acknowledge and then lose
PREFIX = b"{aidocs:state}:"
# values: hash, key to value · versions: zset, key by version, deleted keys as well · names: zset of the keys, by name ·
# deleted: zset, deleted key by version · leases: hash, name to "token begin end" in ms since 1970 ·
# counters: hash with `revision`, `floor` (the feed reaches back to this revision) and `history`
KEYS = tuple(PREFIX + name for name in (b"values", b"versions", b"names", b"deleted", b"leases", b"counters"))

# Lua's numbers are doubles, exact up to 2^53; a revision in microseconds since 1970 stays below until the year 2255.
START = f"""
local values, versions, names, deleted, leases, counters = unpack(KEYS)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not history then return redis.error_reply('INFO replication has no master_replid') end
if redis.call('HGET', counters, 'history') ~= history then
  local last = tonumber(redis.call('HGET', counters, 'revision') or 0)
  local first = text(math.max(last, time[1] * 1000000 + time[2]) + {LOST_WRITES})
  redis.call('HSET', counters, 'history', history, 'revision', first, 'floor', first)
end
local function is_held(lease, token)
  local held, begin_ms, end_ms = string.match(lease or '', '^(%d+) (%d+) (%d+)$')
  return held and (not token or held == token) and tonumber(begin_ms) <= now_ms and now_ms < tonumber(end_ms)
end
"""
GET = "return {redis.call('HGET', KEYS[1], ARGV[1]), tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)}"
LIST = """
local entries = {}
for i, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  entries[i] = {key, redis.call('HGET', KEYS[1], key), tonumber(redis.call('ZSCORE', KEYS[2], key))}
end
return entries
"""
# Revision first: a full Redis refuses this command, and with it the whole change.
WRITE = f"""{START}
local key, expected, lease, token, value, kept = unpack(ARGV)
if token ~= '' and not is_held(redis.call('HGET', leases, lease), token) then return 'LEASE' end
local version = ''
if redis.call('HEXISTS', values, key) == 1 then version = text(tonumber(redis.call('ZSCORE', versions, key))) end
if version ~= expected then return 'VERSION' end
local revision = redis.call('HINCRBY', counters, 'revision', 1)
redis.call('ZADD', versions, text(revision), key)
if #ARGV == 5 then
  redis.call('HSET', values, key, value)
  redis.call('ZADD', names, 0, key)
  redis.call('ZREM', deleted, key)
  return revision
end
redis.call('ZADD', deleted, text(revision), key)
redis.call('HDEL', values, key)
redis.call('ZREM', names, key)
while redis.call('ZCARD', deleted) > tonumber(kept) do
  local oldest = redis.call('ZPOPMIN', deleted)
  redis.call('ZREM', versions, oldest[1])
  redis.call('HSET', counters, 'floor', text(tonumber(oldest[2])))
end
return revision
"""
CHANGES = f"""{START}
local since, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local revision = tonumber(redis.call('HGET', counters, 'revision'))
if since < tonumber(redis.call('HGET', counters, 'floor')) or since > revision then return {{1, revision, {{}}}} end
local changes, version = {{}}, nil
for i, key in ipairs(redis.call('ZRANGEBYSCORE', versions, '(' .. ARGV[1], '+inf', 'LIMIT', 0, limit)) do
  version = tonumber(redis.call('ZSCORE', versions, key))
  changes[i] = {{key, version, redis.call('HGET', values, key)}}
end
if #changes == limit then revision = version end
return {{0, revision, changes}}
"""
ACQUIRE = f"""{START}
local name, ttl_ms = ARGV[1], tonumber(ARGV[2])
if is_held(redis.call('HGET', leases, name)) then return false end
local token = redis.call('HINCRBY', counters, 'revision', 1)
redis.call('HSET', leases, name, text(token) .. ' ' .. text(now_ms) .. ' ' .. text(now_ms + ttl_ms))
return token
"""
RENEW = f"""{START}
local name, ttl_ms, token = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if not is_held(redis.call('HGET', leases, name), token) then return 0 end
redis.call('HSET', leases, name, token .. ' ' .. text(now_ms) .. ' ' .. text(now_ms + ttl_ms))
return 1
"""
RELEASE = f"""{START}
if not is_held(redis.call('HGET', leases, ARGV[1]), ARGV[2]) then return 0 end
return redis.call('HDEL', leases, ARGV[1])
"""


class RedisState:
    """StateStore in Redis. Connects at the first call. timeout_s: for one call."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        timeout_s: float = TIMEOUT_S,
        deletions_kept: int = DELETIONS_KEPT,
    ) -> None:
        self._client: Any = client  # redis types its commands as sync or async, so every await would need a cast
        self._timeout_s = timeout_s
        self._deletions_kept = deletions_kept
        self._durability_is_checked = False

    async def get(self, key: str) -> StateEntry | None:
        value, version = await self._run(GET, encoded_key(key))
        return None if value is None else StateEntry(key, value, version)

    async def list_prefix(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE) -> list[StateEntry]:
        require_page(limit)
        lowest, above, below = key_range(prefix, after)
        begin = b"(" + above if above >= lowest else b"[" + lowest
        entries = await self._run(LIST, begin, b"(" + below, limit)
        return [StateEntry(key.decode(), value, version) for key, value, version in entries]

    async def compare_and_set(
        self, key: str, value: bytes, *, expected: int | None, fence: Lease | None = None
    ) -> Written | Refused:
        require_value(value)
        return await self._write(key, expected, fence, value)

    async def delete(self, key: str, *, expected: int, fence: Lease | None = None) -> Written | Refused:
        return await self._write(key, expected, fence, b"", self._deletions_kept)

    async def _write(
        self, key: str, expected: int | None, fence: Lease | None, *value_and_kept: bytes | int
    ) -> Written | Refused:
        lease, token = (encoded_key(fence.name), fence.token) if fence else (b"", b"")
        answer = await self._run(
            WRITE, encoded_key(key), b"" if expected is None else expected, lease, token, *value_and_kept
        )
        return Refused(Refusal[answer.decode()]) if isinstance(answer, bytes) else Written(answer)

    async def changes(self, since: int, *, limit: int = MAX_PAGE) -> ChangeFeed:
        require_page(limit)
        is_gap, cursor, changes = await self._run(CHANGES, since, limit)
        return ChangeFeed(
            tuple(StateChange(key.decode(), value, version) for key, version, value in changes), cursor, bool(is_gap)
        )

    async def acquire(self, name: str, ttl_s: float) -> Lease | None:
        require_ttl(ttl_s)
        token = await self._run(ACQUIRE, encoded_key(name), round(1000 * ttl_s))
        return None if token is None else Lease(name, token, ttl_s)

    async def renew(self, lease: Lease) -> bool:
        return bool(await self._run(RENEW, encoded_key(lease.name), round(1000 * lease.ttl_s), lease.token))

    async def release(self, lease: Lease) -> bool:
        return bool(await self._run(RELEASE, encoded_key(lease.name), lease.token))

    async def close(self) -> None:
        with translated(StateUnavailable):
            await self._client.aclose()

    async def _run(self, script: str, *arguments: bytes | int) -> Any:
        """Raises StateUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                with translated(StateUnavailable):
                    await self._check_durability()
                    return await self._client.execute_command("EVAL", script, len(KEYS), *KEYS, *arguments)
        except TimeoutError as error:
            raise StateUnavailable(
                f"Redis did not answer within {self._timeout_s:g} s; a change may or may not have been made"
            ) from error

    async def _check_durability(self) -> None:
        if self._durability_is_checked:
            return
        for server in await info_of_primaries(self._client):
            if not int(server.get("aof_enabled", 0)):
                logger.warning(
                    "Redis may lose releases, flags, consents and keys when it restarts: "
                    "set appendonly yes and appendfsync always"
                )
            if str(server.get("maxmemory_policy", "")).startswith("allkeys"):
                logger.warning(
                    "Redis may evict releases, flags, consents and keys (maxmemory-policy %s): set volatile-lfu",
                    server["maxmemory_policy"],
                )
        self._durability_is_checked = True
