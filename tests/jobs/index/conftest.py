from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from jobs.index import run
from serve_app.deployments.store import connect_store
from serve_app.settings import Settings
from serve_app.types import Scope


@pytest.fixture(params=["in_driver", "on_ray_data"])
def shell(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the stages run. Collections that the test makes are deleted, for it makes them again in the other one."""
    if request.param == "on_ray_data":
        monkeypatch.setattr(run, "SMALL_SOURCE_BYTES", -1)
    yield
    asyncio.run(delete_collections(settings))


async def delete_collections(settings: Settings) -> None:
    store = connect_store(settings)
    for collection in await store.collections("local"):
        await store.drop(Scope("local", collection.name))
