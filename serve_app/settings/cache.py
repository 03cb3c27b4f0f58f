"""The cache's tiers, and Redis."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, SecretStr

from serve_app.settings.section import GIB, MIB, Section


class RedisSettings(Section):
    """Redis, for the third cache tier and for collection versions."""

    url: SecretStr | None = None
    """`redis://…`, `rediss://…`, `unix://…`, or `redis+cluster://…` for a cluster. Unset: no Redis."""
    timeout_s: PositiveFloat = 0.1
    """Longest that one call of the cache may take."""


class CacheTierSettings(Section):
    """One tier of the cache."""

    enabled: bool = True
    """Whether the tier is used."""
    size_bytes: int = Field(ge=MIB)
    """Most that the tier holds. It takes less where the machine has less."""
    ttl_s: PositiveFloat
    """How long an entry is kept."""


class MemoryCacheSettings(CacheTierSettings):
    """Memory of each process."""

    size_bytes: int = Field(500 * MIB, ge=MIB)
    """Most that the tier holds in each process. It takes less where the machine has less."""
    ttl_s: PositiveFloat = 300.0


class SharedCacheSettings(CacheTierSettings):
    """Shared memory of the node."""

    size_bytes: int = Field(2 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 1_800.0
    folder: Path | None = None
    """Folder on a tmpfs. Unset: below `/dev/shm`; without that, there is no such tier."""
    timeout_s: PositiveFloat = 0.25
    """Longest that one write may take."""


class RedisCacheSettings(CacheTierSettings):
    """Redis. The tier exists if `REDIS__URL` is set."""

    size_bytes: int = Field(10 * GIB, ge=MIB)
    """What the server gives the cache at most. Set its `maxmemory` to this or less, with a `volatile-…` policy; the
    service warns otherwise."""
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
    """Tiers from the nearest: process memory, the node's shared memory, Redis, disk."""

    l1: MemoryCacheSettings = MemoryCacheSettings()
    l2: SharedCacheSettings = SharedCacheSettings()
    l3: RedisCacheSettings = RedisCacheSettings()
    l4: DiskCacheSettings = DiskCacheSettings()
    negative_ttl_s: PositiveFloat = 10.0
    """How long an error that the request itself causes (NotFound, InvalidInput) is remembered."""
