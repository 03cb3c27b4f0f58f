"""State in a real Redis: the contract on a server and on a cluster, and the guarantees left if Redis loses data."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from redis import Redis, RedisCluster

from serve_app.errors import StateUnavailable
from serve_app.redis_client import connect as connect_redis
from serve_app.state.redis import KEYS, LOST_WRITES, RedisState
from serve_app.state.store import Refusal, Refused, StateEntry, StateStore, Written
from tests.contracts.state import LONG_S, Connect, StateContract, cursor_of, leased, put, remove
from tests.contracts.state_child import start, stop
from tests.contracts.state_model import DELETIONS_KEPT, Example
from tests.serve_app.cache.redis_server import RedisServer, redis_cluster, redis_server

pytestmark = pytest.mark.slow

T = TypeVar("T")
TIMEOUT_S = 30.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
LEASES = KEYS[4]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_cluster([tmp_path_factory.mktemp("node") for _ in range(3)]) as node:
        yield node


@pytest.fixture
async def connect_to() -> AsyncIterator[Callable[..., RedisState]]:
    async with contextlib.AsyncExitStack() as stack:

        def connect_to(url: str, *, timeout_s: float = TIMEOUT_S, **options: int) -> RedisState:
            state = RedisState(connect_redis(url, timeout_s), timeout_s=timeout_s, **options)
            stack.push_async_callback(state.close)
            return state

        yield connect_to


def client_of(url: str) -> Redis:
    return Redis.from_url(primary_of(url))


@cache
def primary_of(url: str) -> str:
    """The URL of the server that has the state."""
    if not url.startswith("redis+cluster"):
        return url
    with RedisCluster.from_url(url.replace("redis+cluster", "redis")) as cluster:
        node = cluster.get_node_from_key(KEYS[0].decode())
        assert node is not None
        return f"redis://{node.host}:{node.port}/0"


def empty(url: str) -> None:
    with client_of(url) as client:
        client.flushall()


def move_leases(url: str, seconds: float) -> None:
    """Leases in a Redis whose clock jumped by so much look the same as leases of that much earlier."""
    with client_of(url) as client:
        for name, lease in client.hgetall(LEASES).items():
            token, *times = lease.split()
            moved = [b"%d" % max(0, int(at_ms) - round(1000 * seconds)) for at_ms in times]
            client.hset(LEASES, name, b" ".join([token, *moved]))


class RedisContract(StateContract):
    @pytest.fixture
    def connect(self, target: str, connect_to: Callable[..., RedisState]) -> Connect:
        empty(target)
        return lambda **options: connect_to(target, **options)

    @pytest.fixture
    def jump(self, target: str) -> Callable[[float], None]:
        return lambda seconds: move_leases(target, seconds)

    @pytest.fixture
    def example(self, target: str) -> Example:
        async def example() -> tuple[StateStore, Callable[[float], None]]:
            empty(target)
            state = RedisState(connect_redis(target, TIMEOUT_S), timeout_s=TIMEOUT_S, deletions_kept=DELETIONS_KEPT)
            return state, lambda seconds: move_leases(target, seconds)

        return example


class TestServer(RedisContract):
    @pytest.fixture
    def target(self, server: RedisServer) -> str:
        empty(server.url)
        return server.url


class TestCluster(RedisContract):
    @pytest.fixture
    def target(self, cluster: RedisServer) -> str:
        empty(cluster.cluster_url)
        return cluster.cluster_url


class TestLoss:
    async def test_a_server_killed_at_random_keeps_every_acknowledged_write(
        self, tmp_path: Path, connect_to: Callable[..., RedisState]
    ) -> None:
        with redis_server(tmp_path, *DURABLE) as server:
            newest = 0
            for _ in range(4):
                writer = start(server.url, "count_for_ever", "counter")
                assert writer.stdout is not None
                versions = [int(await asyncio.to_thread(writer.stdout.readline))]
                await asyncio.sleep(random.uniform(0, 0.1))
                server.kill()
                server.start()
                versions += map(int, (await asyncio.to_thread(stop, writer)).split("\n")[:-1])
                assert versions == sorted(set(versions)) and versions[0] > newest
                entry = await connect_to(server.url).get("counter")
                assert entry is not None and entry.version >= versions[-1]
                newest = await put(connect_to(server.url), "counter", entry.value)
                assert newest > entry.version + LOST_WRITES - len(versions)

    @pytest.mark.parametrize("loss", ["snapshot", "flush"])
    async def test_versions_tokens_and_cursors_of_lost_writes_never_count_again(
        self, tmp_path: Path, connect_to: Callable[..., RedisState], loss: str
    ) -> None:
        with redis_server(tmp_path) as server:
            state = connect_to(server.url)
            kept = await put(state, "k", b"kept")
            early = await leased(state, "index")
            with server.client() as client:
                client.save()
            lost = await put(state, "k", b"lost")
            cursor = (await state.changes(kept)).cursor
            lease = await leased(state, "rollout")
            if loss == "snapshot":
                server.kill()
                server.start()
            else:
                empty(server.url)
            state = connect_to(server.url)
            assert await state.get("k") == (StateEntry("k", b"kept", kept) if loss == "snapshot" else None)
            assert (await state.changes(cursor)).is_gap
            fenced = await state.compare_and_set("new", b"", expected=None, fence=lease)
            assert fenced == Refused(Refusal.LEASE)
            assert await state.compare_and_set("k", b"late", expected=lost) == Refused(Refusal.VERSION)
            successor = await leased(state, "rollout")
            assert successor.token > lease.token and await put(state, "k") > lost
            assert await state.renew(early) == (loss == "snapshot")

    async def test_a_promoted_replica_never_repeats_a_version_of_the_former_primary(
        self, tmp_path: Path, server: RedisServer, connect_to: Callable[..., RedisState]
    ) -> None:
        empty(server.url)
        with server.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with redis_server(tmp_path, "--replicaof", f"127.0.0.1 {server.port}") as replica:
            primary = connect_to(server.url)
            replicated = await put(primary, "k", b"replicated")
            with server.client() as client, replica.client() as other:
                deadline_s = time.monotonic() + 20
                while client.wait(1, 100) != 1:
                    assert time.monotonic() < deadline_s
                other.execute_command("REPLICAOF NO ONE")
            lost = [await put(primary, "k", b"lost"), (await leased(primary, "rollout")).token]
            promoted = connect_to(replica.url)
            assert await promoted.get("k") == StateEntry("k", b"replicated", replicated)
            assert (await promoted.changes(replicated)).is_gap
            new = [await put(promoted, "k"), (await leased(promoted, "rollout")).token]
            assert min(new) > max(lost)


async def answer_of(call: Callable[[], Awaitable[T]]) -> T:
    """The first one there is."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except StateUnavailable:
                await asyncio.sleep(0.05)


class TestTrouble:
    @pytest.mark.parametrize("death", ["freeze", "kill"])
    async def test_a_redis_that_does_not_answer_costs_one_timeout(
        self, tmp_path: Path, connect_to: Callable[..., RedisState], death: str
    ) -> None:
        with redis_server(tmp_path, *DURABLE) as server:
            state = connect_to(server.url, timeout_s=1.0)
            version = await put(state, "k", b"1")
            getattr(server, death)()
            begun_s = time.monotonic()
            calls: list[Callable[[], object]] = [
                lambda: state.get("k"),
                lambda: state.compare_and_set("k", b"2", expected=version),
                lambda: state.acquire("rollout", LONG_S),
            ]
            for call in calls:
                with pytest.raises(StateUnavailable, match="Redis"):
                    await call()  # type: ignore[misc]
            assert time.monotonic() - begun_s < 20
            server.thaw() if death == "freeze" else server.start()
            entry = await answer_of(lambda: state.get("k"))  # by the same client: no answer is another call's
            assert entry in (StateEntry("k", b"1", version), await connect_to(server.url).get("k"))
            assert await put(connect_to(server.url), "k") > version

    async def test_a_full_redis_refuses_a_change_whole(
        self, tmp_path: Path, connect_to: Callable[..., RedisState]
    ) -> None:
        with redis_server(tmp_path, *DURABLE) as server:
            state = connect_to(server.url)
            version, cursor = await put(state, "k", b"1"), await cursor_of(state)
            with server.client() as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(StateUnavailable, match="maxmemory"):
                    await state.compare_and_set("k", b"2", expected=version)
                with pytest.raises(StateUnavailable, match="maxmemory"):
                    await state.acquire("rollout", LONG_S)
                assert await state.get("k") == StateEntry("k", b"1", version)
                client.config_set("maxmemory", 0)
            assert (await state.changes(cursor)).changes == ()
            assert await remove(state, "k") == version + 1

    async def test_the_log_warns_of_a_redis_that_may_lose_state(
        self, tmp_path: Path, connect_to: Callable[..., RedisState], caplog: pytest.LogCaptureFixture
    ) -> None:
        with redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
            state = connect_to(server.url)
            await put(state, "k")
            await put(state, "k")
        assert caplog.text.count("set appendonly yes") == 1
        assert caplog.text.count("maxmemory-policy allkeys-lru") == 1

    async def test_a_durable_redis_gives_no_warning(
        self, tmp_path: Path, connect_to: Callable[..., RedisState], caplog: pytest.LogCaptureFixture
    ) -> None:
        with redis_server(tmp_path, *DURABLE) as server:
            assert isinstance(await connect_to(server.url).compare_and_set("k", b"", expected=None), Written)
        assert caplog.text == ""
