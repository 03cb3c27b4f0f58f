"""Builds the cache from the settings, with tiers no larger than the machine allows."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.guarded import guard
from serve_app.cache.tiers.lmdb import LmdbTier, SharedMemoryTier
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.cache.tiers.segments import Segments
from serve_app.cache.tiers.shared_folder import in_shared_memory, size_bytes
from serve_app.cache.tiers.tier import Tier
from serve_app.control_groups import memory_limit_bytes
from serve_app.errors import ConfigurationError
from serve_app.settings import MIB, CacheSettings, RedisSettings
from serve_app.telemetry.meter import Meter

logger = logging.getLogger(__name__)
DISK_DIVISOR = 2  # a tier on disk takes at most the free space divided by this
MEMORY_DIVISOR = 4  # a tier in memory takes at most the free memory divided by this; other processes need the rest


def open_cache(cache: CacheSettings, redis: RedisSettings, data_dir: Path, meter: Meter) -> Tiered:
    """redis: including its secrets. Raises ConfigurationError if an enabled tier cannot work. A Redis that does not
    answer is not an error: the tier is skipped until it answers."""
    return Tiered(tuple(open_tiers(cache, redis, data_dir, meter)), meter, negative_ttl_s=cache.negative_ttl_s)


def open_tiers(cache: CacheSettings, redis: RedisSettings, data_dir: Path, meter: Meter) -> Iterator[Tier]:
    """Nearest first."""
    if cache.l1.enabled:
        yield MemoryTier(within_memory("l1", cache.l1.size_bytes), cache.l1.ttl_s, name="l1")
    if cache.l2.enabled and (shared := cache.l2.folder or in_shared_memory(data_dir)):
        segments = open_segments("l2", shared, within_memory("l2", cache.l2.size_bytes), cache.l2.ttl_s)
        yield guard(SharedMemoryTier("l2", segments), cache.l2.timeout_s, meter)
    if cache.l3.enabled and redis.url:
        from serve_app.cache.tiers.redis import RedisTier  # the library takes 0.1 s to import
        from serve_app.redis_client import connect

        client = connect(redis.url.get_secret_value(), redis.timeout_s)
        yield guard(RedisTier(client, cache.l3.size_bytes, cache.l3.ttl_s, name="l3"), redis.timeout_s, meter)
    if cache.l4.enabled:
        folder = cache.l4.folder or data_dir / "cache"
        segments = open_segments("l4", folder, cache.l4.size_bytes, cache.l4.ttl_s)
        yield guard(LmdbTier("l4", segments), cache.l4.timeout_s, meter)


def open_segments(name: str, folder: Path, size: int, ttl_s: float) -> Segments:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free + size_bytes(folder)  # plus the tier's own files
        return Segments(folder, within(name, size, free_bytes, str(folder), DISK_DIVISOR), ttl_s)
    except (OSError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{error}. Repair the folder, set another one in AIDOCS_CACHE__{name.upper()}__FOLDER, "
            f"or switch the tier off with AIDOCS_CACHE__{name.upper()}__ENABLED=false"
        ) from error


def within_memory(name: str, size: int) -> int:
    """`size`, limited by the machine's free memory and the container's memory limit. A tmpfs counts as memory."""
    free_bytes = psutil.virtual_memory().available
    limit_bytes = memory_limit_bytes()
    if limit_bytes is not None and limit_bytes < free_bytes:
        return within(name, size, limit_bytes, "the container's memory", MEMORY_DIVISOR)
    return within(name, size, free_bytes, "free memory", MEMORY_DIVISOR)


def within(name: str, size: int, free_bytes: int, place: str, divisor: int) -> int:
    """The smaller of `size` and `free_bytes` / `divisor`, but at least a mebibyte. Logs a warning if that is less than
    `size`."""
    most = max(MIB, free_bytes // divisor)
    if size > most:
        logger.warning(
            "cache tier %s is limited to %d MiB instead of %d MiB: it may take 1/%d of the %d MiB in %s",
            name,
            most // MIB,
            size // MIB,
            divisor,
            free_bytes // MIB,
            place,
        )
    return min(size, most)
