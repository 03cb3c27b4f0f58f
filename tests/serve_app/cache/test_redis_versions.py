"""Versions in a real Redis: every change makes another, none is to be had while one lasts, and what Redis loses never
comes back as an old one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from serve_app.cache.redis_versions import CURRENT, PREFIX, RECORD, RedisVersions
from serve_app.errors import InvalidInput, StoreUnavailable
from serve_app.redis_client import connect
from serve_app.types import Scope
from tests.serve_app.cache.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow

SCOPE = Scope("acme", "handbook")
TIMEOUT_S = 5.0
LONG_S = 300.0  # a lease that no test outlives
SHORT_S = 0.5
Connect = Callable[..., RedisVersions]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    flush(server)


def flush(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


@pytest.fixture
async def connected() -> AsyncIterator[Connect]:
    async with contextlib.AsyncExitStack() as stack:

        def connected(url: str, lease_s: float = LONG_S, timeout_s: float = TIMEOUT_S) -> RedisVersions:
            versions = RedisVersions(connect(url, timeout_s), timeout_s, lease_s=lease_s)
            stack.push_async_callback(versions.close)
            return versions

        yield connected


async def settled(versions: RedisVersions, scope: Scope = SCOPE) -> bytes:
    """The version, once there is one to be had."""
    async with asyncio.timeout(20):
        while True:
            if (version := await versions.current(scope)) is not None:
                return version
            await asyncio.sleep(0.01)


async def change(versions: RedisVersions, scope: Scope = SCOPE) -> None:
    async with versions.changing(scope):
        pass


@contextlib.asynccontextmanager
async def known(server: RedisServer, connected: Connect) -> AsyncIterator[tuple[RedisVersions, RedisVersions]]:
    """A writer's and a reader's, of a collection whose record is old enough to have no lost writers."""
    await settled(connected(server.url, SHORT_S))
    yield connected(server.url), connected(server.url)


async def test_every_change_makes_another_version_for_every_process(server: RedisServer, connected: Connect) -> None:
    async with known(server, connected) as (writer, reader):
        seen = [await settled(reader)]
        for _ in range(3):
            await change(writer)
            seen.append(await settled(reader))
        assert len(set(seen)) == 4
        assert await reader.current(SCOPE) == await writer.current(SCOPE) == seen[-1]


async def test_a_change_is_of_one_scope(server: RedisServer, connected: Connect) -> None:
    other = Scope("rival", "handbook")
    versions = connected(server.url, SHORT_S)
    before = [await settled(versions), await settled(versions, other)]
    assert before[0] != before[1]
    async with connected(server.url).changing(SCOPE):
        assert [await versions.current(SCOPE), await versions.current(other)] == [None, before[1]]


async def test_there_is_no_version_until_the_last_of_two_writers_is_done(
    server: RedisServer, connected: Connect
) -> None:
    async with known(server, connected) as (writer, reader):
        before = await settled(reader)
        async with contextlib.AsyncExitStack() as second:
            async with writer.changing(SCOPE):
                assert await reader.current(SCOPE) is None
                await second.enter_async_context(connected(server.url).changing(SCOPE))
            assert await reader.current(SCOPE) is None
        assert await reader.current(SCOPE) not in (None, before)


async def test_a_change_that_is_refused_ends_and_one_that_may_yet_arrive_does_not(
    server: RedisServer, connected: Connect
) -> None:
    async with known(server, connected) as (writer, reader):
        before = await settled(reader)
        with pytest.raises(InvalidInput):
            async with writer.changing(SCOPE):
                raise InvalidInput("no")
        refused = await reader.current(SCOPE)
        assert refused not in (None, before)
        with pytest.raises(StoreUnavailable, match="no answer"):
            async with writer.changing(SCOPE):
                raise StoreUnavailable("no answer")
        assert await reader.current(SCOPE) is None


async def test_a_writer_that_dies_holds_versions_back_for_its_lease_only(
    server: RedisServer, connected: Connect
) -> None:
    async with known(server, connected) as (_, reader):
        before = await settled(reader)
        begun = asyncio.Event()
        dying = asyncio.create_task(hang(connected(server.url, SHORT_S), begun))
        await begun.wait()
        dying.cancel()
        with server.client() as client:
            [key] = client.keys(PREFIX + b"*")
            assert client.hlen(key) == 3
        assert await settled(reader) != before
        await change(reader)  # which also takes the dead one out
        with server.client() as client:
            assert set(client.hkeys(key)) == {b"history", b"version"}
            assert client.pttl(key) > 0


async def hang(versions: RedisVersions, begun: asyncio.Event) -> None:
    async with versions.changing(SCOPE):
        begun.set()
        await asyncio.Event().wait()


async def test_a_change_does_not_outlive_its_lease(server: RedisServer, connected: Connect) -> None:
    begun_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"cancelled after 0\.4 s.*repeat it"):
        await hang(connected(server.url, SHORT_S), asyncio.Event())
    assert await connected(server.url).current(SCOPE) is None or time.monotonic() - begun_s > SHORT_S


async def test_a_process_that_stood_still_beyond_its_lease_makes_a_new_version_all_the_same(
    server: RedisServer, connected: Connect
) -> None:
    async with known(server, connected) as (_, reader):
        async with connected(server.url, SHORT_S).changing(SCOPE):
            time.sleep(SHORT_S + 0.05)  # noqa: ASYNC251 (no clock of this process may run)
            during = told_without_the_loop(server)
        assert await reader.current(SCOPE) not in (None, during)


def told_without_the_loop(server: RedisServer) -> bytes:
    with server.client() as client:
        [key] = client.keys(PREFIX + b"*")
        version = client.eval(CURRENT, 1, key, b"unused", 1_000, 1_000, "")
    assert isinstance(version, bytes)
    return version


@pytest.mark.parametrize("url", ["server", "cluster"])
async def test_many_that_ask_at_once_are_told_the_same_as_each_alone(
    request: pytest.FixtureRequest, connected: Connect, url: str
) -> None:
    running: RedisServer = request.getfixturevalue(url)
    versions = connected(
        running.url.replace("redis://", "redis+cluster://").removesuffix("/0") if url == "cluster" else running.url,
        SHORT_S,
    )
    scopes = [Scope("acme", f"c{number}") for number in range(20)]
    alone = await asyncio.gather(*(settled(versions, scope) for scope in scopes))
    assert await asyncio.gather(*(versions.current(scope) for scope in scopes * 20)) == alone * 20
    async with versions.changing(scopes[3]):
        told = await asyncio.gather(*(versions.current(scope) for scope in scopes))
    assert told == [None if scope == scopes[3] else version for scope, version in zip(scopes, alone, strict=True)]
    assert await settled(versions, scopes[3]) not in alone


class TestLoss:
    async def test_what_was_flushed_is_another_version_and_not_before_lost_writers_are_over(
        self, server: RedisServer, connected: Connect
    ) -> None:
        versions = connected(server.url, SHORT_S)
        before = await settled(versions)
        async with versions.changing(SCOPE):
            flush(server)
            begun_s = time.monotonic()
            assert await versions.current(SCOPE) is None  # the writer is still there, though Redis forgot it
        assert await versions.current(SCOPE) is None or time.monotonic() - begun_s > SHORT_S
        assert await settled(versions) != before
        assert time.monotonic() - begun_s >= SHORT_S - 0.05

    async def test_a_snapshot_s_version_is_not_believed(self, tmp_path: Path, connected: Connect) -> None:
        """Redis comes back with the state of before a change, which it had acknowledged."""
        with redis_server(tmp_path) as server:
            versions = connected(server.url, SHORT_S)
            before = await settled(versions)
            with server.client() as client:
                client.save()
            await change(versions)
            server.kill()
            server.start()
            with server.client() as client:
                [key] = client.keys(PREFIX + b"*")
                assert client.hget(key, "version") == before
            assert await settled(connected(server.url, SHORT_S)) != before

    async def test_a_replica_that_is_promoted_without_the_last_change_is_not_believed(
        self, tmp_path: Path, server: RedisServer, connected: Connect
    ) -> None:
        with server.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with redis_server(tmp_path, "--replicaof", f"127.0.0.1 {server.port}") as replica:
            before = await settled(connected(server.url, SHORT_S))
            with replica.client() as client:
                deadline_s = time.monotonic() + 20
                while not client.keys(PREFIX + b"*"):
                    assert time.monotonic() < deadline_s
                    await asyncio.sleep(0.02)
                client.execute_command("REPLICAOF NO ONE")
                await change(connected(server.url))  # which the replica never hears of
                [key] = client.keys(PREFIX + b"*")
                assert client.hget(key, "version") == before
            assert await settled(connected(replica.url, SHORT_S)) != before


class TestWithoutRedis:
    @pytest.mark.parametrize("death", ["freeze", "kill"])
    async def test_nothing_may_be_changed_and_asking_costs_one_timeout(
        self, tmp_path: Path, connected: Connect, death: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with redis_server(tmp_path) as server:
            versions = connected(server.url, SHORT_S, 0.2)
            before = await settled(versions)
            getattr(server, death)()
            begun_s = time.monotonic()
            assert [await versions.current(SCOPE) for _ in range(200)] == [None] * 200
            assert time.monotonic() - begun_s < 10  # 200 timeouts would be 40 s
            assert caplog.text.count("is left out until it answers") == 1
            entered = False
            with pytest.raises(StoreUnavailable, match=r"nothing was changed in 'handbook'.*AIDOCS_REDIS__URL"):
                async with versions.changing(SCOPE):
                    entered = True
            assert not entered
            server.thaw() if death == "freeze" else server.start()
            await settled(versions)
            await change(versions)
            assert await settled(versions) != before

    async def test_a_change_whose_end_redis_does_not_take_is_done_and_holds_versions_back(
        self, tmp_path: Path, connected: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        with redis_server(tmp_path) as server:
            before = await settled(connected(server.url, SHORT_S))
            writer, reader = connected(server.url, 2.0), connected(server.url)
            with server.client() as client:
                async with writer.changing(SCOPE):
                    begun_s = time.monotonic()
                    client.config_set("min-replicas-to-write", 1)  # it takes no write
                client.config_set("min-replicas-to-write", 0)
            assert "Redis did not record its end (Redis: NOREPLICAS" in caplog.text
            assert await settled(reader) != before
            assert time.monotonic() - begun_s > 1.9


async def test_a_redis_that_cannot_tell_its_history_is_refused(
    server: RedisServer, connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.cache.redis_versions.BEGIN", RECORD.replace("master_replid", "no_such_line"))
    with pytest.raises(StoreUnavailable, match="INFO replication has no"):
        await change(connected(server.url))
