"""The tiers that are opened, and what is said where one cannot be had."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from serve_app.cache import build
from serve_app.cache.entry import EntryKind
from serve_app.cache.tiered import CachedPayload
from serve_app.cache.tiers import shared_folder
from serve_app.errors import ConfigurationError
from serve_app.settings import CacheSettings, RedisSettings
from serve_app.telemetry.meter import Meter
from tests.contracts.cache_tier import key

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(shared_folder, "TMPFS", folder)
    return folder


def names(cache: CacheSettings, redis: RedisSettings, data_dir: Path) -> list[str]:
    return [tier.name for tier in build.open_tiers(cache, redis, data_dir, Meter())]


def settings(**sections: object) -> CacheSettings:
    return CacheSettings.model_validate(sections)


def test_by_default_there_are_memory_shared_memory_and_disk(tmp_path: Path) -> None:
    assert names(CacheSettings(), RedisSettings(), tmp_path / "data") == ["l1", "l2", "l4"]


def test_redis_is_a_tier_where_its_url_is_set(tmp_path: Path) -> None:
    redis = RedisSettings.model_validate({"url": "redis://127.0.0.1:1/0"})
    assert names(CacheSettings(), redis, tmp_path) == ["l1", "l2", "l3", "l4"]
    assert names(settings(l3={"enabled": False}), redis, tmp_path / "other") == ["l1", "l2", "l4"]


def test_every_tier_can_be_left_out(tmp_path: Path, tmpfs: Path) -> None:
    off = {f"l{number}": {"enabled": False} for number in (1, 2, 3, 4)}
    assert names(settings(**off), RedisSettings(), tmp_path / "data") == []
    assert list(tmpfs.iterdir()) == [] and not (tmp_path / "data").exists()


def test_without_a_tmpfs_there_is_no_shared_memory(tmp_path: Path, tmpfs: Path) -> None:
    tmpfs.rmdir()
    assert names(CacheSettings(), RedisSettings(), tmp_path) == ["l1", "l4"]


async def test_the_next_process_finds_what_this_one_put(tmp_path: Path) -> None:
    for expected in (None, CachedPayload(b"x", "l2")):
        cache = build.open_cache(CacheSettings(), RedisSettings(), tmp_path, Meter())
        assert await cache.get(EntryKind.RESULT, key(1)) == expected
        await cache.put(EntryKind.RESULT, key(1), b"x")
        await cache.close()


async def test_a_small_machine_gets_small_tiers_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    usage = shutil.disk_usage(tmp_path)._replace(free=30 * MIB)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: usage)
    cache = build.open_cache(CacheSettings(), RedisSettings(), tmp_path, Meter())
    limits = {name: of_tier.limit_bytes for name, of_tier in (await cache.usage()).items()}  # type: ignore[union-attr]
    assert limits["l2"] == limits["l4"] == 15 * MIB
    assert "cache tier l2 is limited to 15 MiB instead of 2048 MiB" in caplog.text
    await cache.close()


async def test_in_a_container_the_tiers_in_memory_are_parts_of_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(build, "memory_limit_bytes", lambda: 40 * MIB)
    cache = build.open_cache(settings(l4={"enabled": False}), RedisSettings(), tmp_path, Meter())
    limits = {name: of_tier.limit_bytes for name, of_tier in (await cache.usage()).items()}  # type: ignore[union-attr]
    assert limits == {"l1": 10 * MIB, "l2": 10 * MIB}
    assert "l1 is limited to 10 MiB instead of 500 MiB: it may take 1/4 of the 40 MiB in the container's" in caplog.text
    await cache.close()


def test_a_folder_that_cannot_be_used_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"AIDOCS_CACHE__L4__FOLDER.*AIDOCS_CACHE__L4__ENABLED=false"):
        names(settings(l4={"folder": tmp_path / "file" / "cache"}), RedisSettings(), tmp_path)


def test_a_redis_that_is_away_does_not_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AIDOCS_REDIS__URL"):
        names(CacheSettings(), RedisSettings.model_validate({"url": "nonsense"}), tmp_path)
    names(CacheSettings(), RedisSettings.model_validate({"url": "redis://127.0.0.1:1"}), tmp_path / "other")
