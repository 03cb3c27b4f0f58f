"""Settings of the cache tiers and of Redis."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, SecretStr

from serve_app.settings.section import GIB, MIB, Section


class RedisSettings(Section):
    """Redis, for the third cache tier and for collection versions."""

    url: SecretStr | None = None
    """`redis://…`, `rediss://…`, `unix://…`, or `redis+cluster://…` for a cluster. Unset: no Redis."""
    timeout_s: PositiveFloat = 0.1
    """Longest that one call of the cache to Redis may take."""


class CacheTierSettings(Section):
    """One tier of the cache."""

    enabled: bool = True
    """Whether the tier is used."""
    size_bytes: int = Field(ge=MIB)
    """Largest size of the tier. It is smaller if the machine has less room."""
    ttl_s: PositiveFloat
    """How long an entry is kept."""


class MemoryCacheSettings(CacheTierSettings):
    """Memory of each process."""

    size_bytes: int = Field(500 * MIB, ge=MIB)
    """Largest size of the tier in each process. It is smaller if the machine has less room."""
    ttl_s: PositiveFloat = 300.0


class SharedCacheSettings(CacheTierSettings):
    """Shared memory of the node."""

    size_bytes: int = Field(2 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 1_800.0
    folder: Path | None = None
    """Folder on a tmpfs. Unset: a folder in `/dev/shm`; without `/dev/shm` the tier does not exist."""
    timeout_s: PositiveFloat = 0.25
    """Longest that one write may take."""


class RedisCacheSettings(CacheTierSettings):
    """Redis. The tier exists if `REDIS__URL` is set."""

    size_bytes: int = Field(10 * GIB, ge=MIB)
    """Memory that the cache may use on the server. Set the server's `maxmemory` to this or less, with a `volatile-…`
    policy; otherwise the service logs a warning."""
    ttl_s: PositiveFloat = 3_600.0


class DiskCacheSettings(CacheTierSettings):
    """Disk of the node."""

    size_bytes: int = Field(100 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 86_400.0
    folder: Path | None = None
    """Folder of the tier. Unset: `cache/` in `DATA_DIR`."""
    timeout_s: PositiveFloat = 0.5
    """Longest that one call may take."""


class CacheSettings(Section):
    """Tiers of the cache, fastest first: process memory, shared memory of the node, Redis, disk."""

    l1: MemoryCacheSettings = MemoryCacheSettings()
    l2: SharedCacheSettings = SharedCacheSettings()
    l3: RedisCacheSettings = RedisCacheSettings()
    l4: DiskCacheSettings = DiskCacheSettings()
    negative_ttl_s: PositiveFloat = 10.0
    """How long an error that the request itself causes (NotFound, InvalidInput) is cached."""
