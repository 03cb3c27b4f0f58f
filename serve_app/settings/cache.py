"""The cache's tiers, and Redis."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, SecretStr

from serve_app.settings.section import GIB, MIB, Section


class RedisSettings(Section):
    url: SecretStr | None = None  # redis://, rediss://, unix://; redis+cluster:// for a cluster. None = no Redis
    timeout_s: PositiveFloat = 0.1  # for one call of the cache


class CacheTierSettings(Section):
    """size_bytes is the most; a tier takes less where the machine has less. Entries are forgotten after ttl_s."""

    enabled: bool = True
    size_bytes: int = Field(ge=MIB)
    ttl_s: PositiveFloat


class MemoryCacheSettings(CacheTierSettings):
    size_bytes: int = Field(500 * MIB, ge=MIB)  # of each process
    ttl_s: PositiveFloat = 300.0


class SharedCacheSettings(CacheTierSettings):
    size_bytes: int = Field(2 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 1_800.0
    folder: Path | None = None  # on a tmpfs; None = below /dev/shm, and no such tier where there is none
    timeout_s: PositiveFloat = 0.25  # for one write


class RedisCacheSettings(CacheTierSettings):
    """There is such a tier where REDIS__URL is set."""

    size_bytes: int = Field(10 * GIB, ge=MIB)  # the server's maxmemory
    ttl_s: PositiveFloat = 3_600.0


class DiskCacheSettings(CacheTierSettings):
    size_bytes: int = Field(100 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 86_400.0
    folder: Path | None = None  # None = cache/ in DATA_DIR
    timeout_s: PositiveFloat = 0.5  # for one call


class CacheSettings(Section):
    """Tiers from the nearest: process memory, the node's shared memory, Redis, disk."""

    l1: MemoryCacheSettings = MemoryCacheSettings()
    l2: SharedCacheSettings = SharedCacheSettings()
    l3: RedisCacheSettings = RedisCacheSettings()
    l4: DiskCacheSettings = DiskCacheSettings()
    negative_ttl_s: PositiveFloat = 10.0  # for which a NotFound or InvalidInput is remembered
