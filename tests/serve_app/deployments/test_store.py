"""The store actor and its client: the store contract through Ray, and behaviour that needs a separate process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import ray

from serve_app.deployments.store import NAMESPACE, EmbeddedStoreClient, connect_store
from serve_app.errors import PlatformError, StoreLocked, StoreUnavailable
from serve_app.settings import Settings, StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, document
from tests.contracts.vector_store import VectorStoreContract
from tests.serve_app.cache.redis_server import redis_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store-actor")


@pytest.fixture
async def client(ray_cluster: object, folder: Path) -> AsyncIterator[EmbeddedStoreClient]:
    """One actor for all tests of the module: a worker process takes seconds to start."""
    client = EmbeddedStoreClient(folder, StoreSettings())
    yield client
    for tenant in [path.name for path in (folder / "store").iterdir() if path.is_dir()]:
        for collection in await client.collections(tenant):
            await client.drop(Scope(tenant, collection.name))


class TestStoreActor(VectorStoreContract):
    @pytest.fixture
    async def store(self, client: EmbeddedStoreClient) -> EmbeddedStoreClient:
        return client


async def actor_pid(folder: Path) -> int:
    actor = ray.get_actor(f"store {folder}", namespace=NAMESPACE)
    return int(await actor.__ray_call__.remote(lambda _: os.getpid()))


async def test_every_acknowledged_write_survives_kill_9(client: EmbeddedStoreClient, folder: Path) -> None:
    """And no caller sees the death: what is in flight is repeated."""
    acknowledged: list[str] = []
    kills: list[asyncio.Task[None]] = []

    async def kill() -> None:
        os.kill(await actor_pid(folder), signal.SIGKILL)

    for number in range(60):
        if number in {10, 30}:
            kills.append(asyncio.create_task(kill()))  # it strikes while later writes are in flight
        await client.write(SCOPE, SPACE, [document(f"d{number}", f"text {number}")])
        acknowledged.append(f"d{number}")
    await asyncio.gather(*kills)
    stored = await client.fingerprints(SCOPE, [f"d{number}" for number in range(60)])
    assert stored.keys() == set(acknowledged) and len(acknowledged) == 60
    assert (await client.count(SCOPE)).passages == 60


async def test_two_clients_share_one_actor(client: EmbeddedStoreClient, folder: Path) -> None:
    other = connect_store(Settings(data_dir=folder))
    await client.write(SCOPE, SPACE, [document("cats", "cats")])
    assert (await other.document(SCOPE, "cats")).id == "cats"
    assert await actor_pid(folder) not in {os.getpid()}


async def test_a_folder_that_is_owned_elsewhere_is_a_clear_error_until_it_is_free(
    ray_cluster: object, tmp_path: Path
) -> None:
    owner = EdgeStore.open(tmp_path, StoreSettings())
    client = EmbeddedStoreClient(tmp_path, StoreSettings())
    with pytest.raises(StoreLocked) as refused:
        await client.check()
    assert str(os.getpid()) in str(refused.value)
    assert type(refused.value) is StoreLocked, "Ray's own wrapping is gone"
    await owner.close()
    await client.check()


async def test_a_store_that_hangs_is_unavailable_in_time(ray_cluster: object, tmp_path: Path) -> None:
    client = EmbeddedStoreClient(tmp_path, StoreSettings())
    await client.check()
    process = psutil.Process(await actor_pid(tmp_path))
    hurried = EmbeddedStoreClient(tmp_path, StoreSettings(timeout_s=0.5))
    process.suspend()
    try:
        with pytest.raises(StoreUnavailable, match=r"within 0\.5 s"):
            await hurried.check()
    finally:
        process.resume()
    await client.check()


@pytest.mark.slow
async def test_on_a_qdrant_server_versions_are_in_redis_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a replica has it: settings without secrets, Redis's URL in its own environment."""
    settings = Settings(store=StoreSettings(url="http://127.0.0.1:1")).without_secrets()
    assert await connect_store(settings).version(SCOPE) is None
    with redis_server(tmp_path) as redis:
        monkeypatch.setenv("AIDOCS_REDIS__URL", redis.url)
        store = connect_store(settings)
        assert await store.version(SCOPE) is None
        with redis.client() as client:
            assert client.dbsize() == 1  # it was asked: the record of a collection whose writers are not known
        await store.close()


def test_errors_cross_processes_whole() -> None:
    """They travel by value between actor and client."""
    import pickle

    pending = [PlatformError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        copy = pickle.loads(pickle.dumps(kind("what to do")))
        assert type(copy) is kind and str(copy) == "what to do"
