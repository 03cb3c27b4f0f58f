"""Connects to a Redis server or a Redis Cluster, and translates the library's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from serve_app.errors import ConfigurationError, Unavailable

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


def connect(url: str, timeout_s: float) -> Redis | RedisCluster:
    """A client that connects at its first call and does not retry. url: redis://, rediss:// or unix:// for a server;
    redis+cluster:// or rediss+cluster:// for any node of a cluster. timeout_s: for one call.
    Raises ConfigurationError if the URL is invalid. The message leaves the URL out, because it may hold a password."""
    scheme, _, rest = url.partition("://")
    limits: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if scheme in CLUSTER_SCHEMES:
            cluster_url = f"{CLUSTER_SCHEMES[scheme]}://{rest}"
            return RedisCluster.from_url(cluster_url, **limits)
        return Redis.from_url(url, **limits)
    except (ValueError, RedisError, RedisClusterException) as error:
        raise ConfigurationError(
            "AIDOCS_REDIS__URL is not a Redis URL: redis://host:6379/0, rediss://…, unix://… "
            "or redis+cluster://host:6379 for a cluster"
        ) from error


async def info_of_primaries(client: Any) -> list[dict[str, Any]]:
    """The reply to INFO everything of the server, or of each primary of the cluster."""
    if isinstance(client, RedisCluster):
        by_node = await client.info("everything", target_nodes=RedisCluster.PRIMARIES)
        return [by_node] if "used_memory" in by_node else list(by_node.values())  # one node: not keyed by node
    return [await client.info("everything")]


@contextlib.contextmanager
def translated(error_type: type[Unavailable] = Unavailable) -> Iterator[None]:
    """Raises `error_type` for the library's errors."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise error_type(f"Redis: {error}") from error
