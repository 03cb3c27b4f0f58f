"""Redis: the suite on a real server and a real cluster, a full one, damage, and its death in the middle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serve_app.cache.tiers.guarded import GuardedTier
from serve_app.cache.tiers.redis import PREFIX, RedisTier
from serve_app.cache.tiers.tier import Tier
from serve_app.errors import ConfigurationError, Unavailable
from serve_app.redis_client import connect
from serve_app.telemetry.meter import Meter
from tests.contracts.cache_tier import TTL_S, CacheTierContract, Clock, entry, key
from tests.serve_app.cache.redis_server import BOUNDED, RedisServer, redis_server
from tests.serve_app.telemetry.counted import counted

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), *BOUNDED) as running:
        yield running


class TestRedisTier(CacheTierContract):
    transient_bytes = MIB

    @pytest.fixture(params=["server", "cluster"])
    async def tier(self, request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Tier]:
        server: RedisServer = request.getfixturevalue(request.param)
        url = server.url if request.param == "server" else f"redis+cluster://127.0.0.1:{server.port}"
        tier = RedisTier(connect(url, TIMEOUT_S), MIB, TTL_S, clock=clock)
        await tier.clear()
        yield tier
        await tier.close()


async def test_keys_carry_a_prefix_and_a_time_to_live_and_clear_touches_nothing_else(server: RedisServer) -> None:
    tier = RedisTier(connect(server.url, TIMEOUT_S), MIB, TTL_S)
    await tier.put_many({key(1): entry()})
    with server.client() as client:
        client.set("state", "kept")
        assert 0 < client.pttl(PREFIX + key(1)) <= TTL_S * 1000  # type: ignore[operator]
        await tier.clear()
        assert client.get("state") == b"kept" and client.dbsize() == 1
        client.delete("state")
    await tier.close()


async def test_damaged_values_are_misses(server: RedisServer) -> None:
    tier = RedisTier(connect(server.url, TIMEOUT_S), MIB, TTL_S)
    await tier.put_many({key(number): entry(b"payload") for number in range(3)})
    with server.client() as client:
        client.setrange(PREFIX + key(0), 22, b"X")
        client.set(PREFIX + key(1), client.get(PREFIX + key(2)) or b"")
    assert (await tier.get_many([key(0), key(1), key(2)])).keys() == {key(2)}
    await tier.close()


async def test_a_full_server_that_evicts_nothing_takes_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path, "--maxmemory", str(3 * MIB), "--maxmemory-policy", "noeviction") as server:
        tier = RedisTier(connect(server.url, TIMEOUT_S), MIB, TTL_S)
        await tier.put_many({key("early"): entry(b"early"), key("replaced"): entry(b"old")})
        assert "set maxmemory to at most 1048576 bytes and maxmemory-policy to volatile-lfu" in caplog.text
        for number in range(400):
            await tier.put_many({key(number): entry(bytes(10_000))})
        await tier.put_many({key("replaced"): entry(bytes(10_000))})
        assert "Redis is full" in caplog.text
        assert (await tier.get_many([key("early"), key("replaced")])).keys() == {key("early")}
        await tier.close()


@pytest.mark.parametrize("death", ["freeze", "kill"])
async def test_a_dead_redis_costs_one_timeout_then_nothing_until_it_is_back(
    tmp_path: Path, death: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    with redis_server(tmp_path, *BOUNDED) as server:
        meter = Meter()
        tier = GuardedTier(RedisTier(connect(server.url, 0.2), MIB, TTL_S), 0.2, meter, clock)
        await tier.put_many({key(1): entry(b"before")})
        assert key(1) in await tier.get_many([key(1)])
        getattr(server, death)()
        for _ in range(200):
            assert await tier.get_many([key(1)]) == {}
            await tier.put_many({key(2): entry()})
        assert counted(meter, "aidocs_cache_failures_total", tier="l3") == {"": 1}
        assert caplog.text.count("is left out until it answers") == 1
        with pytest.raises(Unavailable):
            await tier.usage()
        server.thaw() if death == "freeze" else server.start()
        async with asyncio.timeout(30):
            while counted(meter, "aidocs_cache_pause_seconds", tier="l3") != {"": 0}:
                clock.now_s += 100
                await tier.get_many([key(1)])
                await asyncio.sleep(0.01)
        await tier.put_many({key(3): entry(b"after")})
        assert (await tier.get_many([key(3)]))[key(3)].payload == b"after"
        await tier.close()


@pytest.mark.parametrize("url", ["", "host:6379", "http://:hush@host", "redis+cluster://host/5", "redis://h:port"])
def test_a_url_that_cannot_be_stops_the_start_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="AIDOCS_REDIS__URL") as refused:
        connect(url, TIMEOUT_S)
    assert "hush" not in str(refused.value)
