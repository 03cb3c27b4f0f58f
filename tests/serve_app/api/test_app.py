"""Shutdown of a replica, which Serve and uvicorn announce by ASGI's lifespan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from serve_app.api.app import build_app
from serve_app.api.services import Services
from serve_app.cache.entry import EntryKind
from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.lmdb import LmdbTier
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.cache.tiers.segments import Segments
from serve_app.settings import MIB

KEY = b"0" * 32


async def test_what_the_cache_has_not_written_yet_is_written(services: Services, tmp_path: Path) -> None:
    cache = Tiered([MemoryTier(MIB, 60), LmdbTier("l4", Segments(tmp_path / "cache", MIB, 60))])
    app = build_app(replace(services, cache=cache))
    async with app.router.lifespan_context(app):
        cache.put_soon(EntryKind.RESULT, {KEY: b"x"})
    found, _ = Segments(tmp_path / "cache", MIB, 60).get_many([KEY])
    assert found[KEY].payload == b"x"
