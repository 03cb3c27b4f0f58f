"""The tier that all machines share: a Redis server, or a Redis Cluster.

The server bounds the tier's size, not this class. It should run with `maxmemory` and a `volatile-…` policy, which
evicts only keys with a time to live. All cache entries have one, and control state has none. A warning is logged if the
server has no limit or evicts nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import OutOfMemoryError

from serve_app.cache.entry import Entry, decode, encode
from serve_app.cache.tiers.tier import Clock, TierUsage, utc_s
from serve_app.redis_client import info_of_primaries, translated

logger = logging.getLogger(__name__)
PREFIX = b"aidocs:cache:"
MAX_ENTRY_BYTES = 4 * 1024 * 1024
CLEAR_AT_ONCE = 1_000
DATABASE = re.compile(r"db\d+")


class RedisTier:
    """limit_bytes: the `maxmemory` that the server should have. The first call connects."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        limit_bytes: int,
        ttl_s: float,
        *,
        name: str = "l3",
        clock: Clock = utc_s,
    ) -> None:
        self._client: Any = client  # redis types its commands as sync or async, so every await would need a cast
        self._name = name
        self._limit_bytes = limit_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._limit_is_checked = False

    @property
    def name(self) -> str:
        return self._name

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.get(PREFIX + key)
            contents: list[bytes | None] = await pipeline.execute()
        now_s = self._clock()
        decoded = ((key, decode(key, content, now_s)) for key, content in zip(keys, contents, strict=True) if content)
        return {key: entry for key, entry in decoded if entry is not None}

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        now_s = self._clock()
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for key, entry in entries.items():
                content = encode(key, entry.until(now_s + self._ttl_s))
                lifetime_ms = int(1000 * min(self._ttl_s, entry.expires_at_s - now_s))
                if len(content) > MAX_ENTRY_BYTES or lifetime_ms <= 0:
                    pipeline.execute_command("UNLINK", PREFIX + key)  # RedisCluster's pipeline does not queue `unlink`
                else:
                    pipeline.set(PREFIX + key, content, px=lifetime_ms)
            answers = await pipeline.execute(raise_on_error=False)
            await self._left_out(
                [key for key, answer in zip(entries, answers, strict=True) if isinstance(answer, OutOfMemoryError)]
            )
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, OutOfMemoryError):
                    raise answer
            await self._check_limit()

    async def _left_out(self, keys: Sequence[bytes]) -> None:
        """The server is full and evicts nothing, so it refused these entries. Delete what their keys held before: a
        read must not return an older entry."""
        if keys:
            logger.warning("Redis is full and evicts nothing: %d cache entries were not stored", len(keys))
            await self._client.unlink(*(PREFIX + key for key in keys))

    async def _check_limit(self) -> None:
        if not self._limit_is_checked:
            self._limit_is_checked = True
            for server in await info_of_primaries(self._client):
                limit_bytes, policy = int(server.get("maxmemory", 0)), str(server.get("maxmemory_policy", ""))
                if limit_bytes == 0 or not policy.startswith(("volatile", "allkeys")):
                    logger.warning(
                        "Redis does not bound the cache (maxmemory %d bytes, policy %s): set maxmemory to at most %d "
                        "bytes and maxmemory-policy to volatile-lfu",
                        limit_bytes,
                        policy,
                        self._limit_bytes,
                    )

    async def clear(self) -> None:
        with translated():
            batch: list[bytes] = []
            async for key in self._client.scan_iter(match=PREFIX + b"*", count=CLEAR_AT_ONCE):
                batch.append(key)
                if len(batch) == CLEAR_AT_ONCE:
                    await self._client.unlink(*batch)
                    batch.clear()
            if batch:
                await self._client.unlink(*batch)

    async def usage(self) -> TierUsage:
        """Of the whole server or cluster, including the data of its other users."""
        with translated():
            servers = await info_of_primaries(self._client)
        databases = [value for server in servers for name, value in server.items() if DATABASE.fullmatch(name)]
        return TierUsage(
            sum(int(server["used_memory"]) for server in servers),
            sum(int(database["keys"]) for database in databases),
            sum(int(server.get("maxmemory", 0)) for server in servers),
        )

    async def close(self) -> None:
        with translated():
            await self._client.aclose()
