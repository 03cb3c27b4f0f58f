"""The contract suite for every cache tier. A subclass provides the fixture `tier`: empty at the begin of each test, of
about 1 MiB, with a time to live of TTL_S on `clock`."""

from __future__ import annotations

import dataclasses
import math

import pytest

from serve_app.cache.entry import Entry, EntryKind, EntryOutcome
from serve_app.cache.keys import digest
from serve_app.cache.tiers.tier import ImmediateTier, Tier

TTL_S = 100.0
KIB = 1024


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def key(name: object) -> bytes:
    return digest(b"test", str(name))


def entry(payload: bytes = b"payload", **changes: object) -> Entry:
    return dataclasses.replace(Entry(EntryKind.RESULT, payload), **changes)  # type: ignore[arg-type]


class CacheTierContract:
    transient_bytes = 0  # what a server may have in its buffers above the limit, for a moment

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    async def test_what_was_put_comes_back_byte_for_byte(self, tier: Tier) -> None:
        payloads = [b"", b"\0", bytes(range(256)) * 40]
        await tier.put_many({key(number): entry(payload) for number, payload in enumerate(payloads)})
        found = await tier.get_many([key(number) for number in range(4)])
        assert {k: e.payload for k, e in found.items()} == {key(n): p for n, p in enumerate(payloads)}
        assert all(e.kind is EntryKind.RESULT and e.outcome is EntryOutcome.VALUE for e in found.values())

    async def test_nothing_asked_or_put_is_nothing(self, tier: Tier) -> None:
        await tier.put_many({})
        assert await tier.get_many([]) == {}

    async def test_a_remembered_error_comes_back(self, tier: Tier) -> None:
        await tier.put_many(
            {key(1): Entry(EntryKind.EMBEDDING, "dépassé".encode(), outcome=EntryOutcome.INVALID_INPUT)}
        )
        error = (await tier.get_many([key(1)]))[key(1)].error()
        assert error is not None and error.code == "invalid-input" and str(error) == "dépassé"

    async def test_the_last_one_put_counts(self, tier: Tier) -> None:
        for payload in (b"old", b"new", b"longer " * 1_000, b"short"):
            await tier.put_many({key(1): entry(payload)})
            assert (await tier.get_many([key(1)]))[key(1)].payload == payload

    async def test_it_is_forgotten_after_the_tiers_time(self, tier: Tier, clock: Clock) -> None:
        await tier.put_many({key(1): entry()})
        clock.now_s += TTL_S - 1
        assert key(1) in await tier.get_many([key(1)])
        clock.now_s += 1
        assert await tier.get_many([key(1)]) == {}

    async def test_an_entrys_own_shorter_time_is_kept(self, tier: Tier, clock: Clock) -> None:
        await tier.put_many({key(1): entry(expires_at_s=clock.now_s + 5)})
        found = await tier.get_many([key(1)])
        assert found[key(1)].expires_at_s == clock.now_s + 5
        clock.now_s += 5
        assert await tier.get_many([key(1)]) == {}

    async def test_one_that_has_expired_already_replaces_and_is_not_found(self, tier: Tier, clock: Clock) -> None:
        await tier.put_many({key(1): entry(b"old")})
        await tier.put_many({key(1): entry(b"new", expires_at_s=clock.now_s - 1)})
        assert await tier.get_many([key(1)]) == {}

    async def test_what_is_too_large_is_left_out_and_does_no_harm(self, tier: Tier) -> None:
        await tier.put_many({key(1): entry(b"old"), key(2): entry(b"two")})
        await tier.put_many({key(1): entry(bytes(8 * KIB * KIB)), key(3): entry(b"three")})
        found = await tier.get_many([key(1), key(2), key(3)])
        assert {k: e.payload for k, e in found.items()} == {key(2): b"two", key(3): b"three"}

    async def test_clear_forgets_everything_and_goes_on(self, tier: Tier) -> None:
        await tier.put_many({key(number): entry() for number in range(50)})
        await tier.clear()
        assert await tier.get_many([key(number) for number in range(50)]) == {}
        await tier.put_many({key(1): entry(b"again")})
        assert (await tier.get_many([key(1)]))[key(1)].payload == b"again"

    async def test_it_stays_within_its_size_and_still_answers(self, tier: Tier) -> None:
        limit_bytes = (await tier.usage()).limit_bytes
        count = 2 * limit_bytes // 2_000
        payloads = {key(number): bytes([number % 256]) * (number * 37 % 4_000) for number in range(count)}
        keys = list(payloads)
        for start in range(0, len(keys), 100):
            await tier.put_many({k: entry(payloads[k]) for k in keys[start : start + 100]})
            assert (await tier.usage()).bytes <= limit_bytes + self.transient_bytes
        found = await tier.get_many(keys)
        assert 0.02 < len(found) / len(keys) < 0.7
        assert all(e.payload == payloads[k] for k, e in found.items())

    async def test_usage_counts(self, tier: Tier) -> None:
        before = await tier.usage()
        await tier.put_many({key(number): entry(bytes(2_000)) for number in range(20)})
        after = await tier.usage()
        assert after.entries == before.entries + 20
        assert after.bytes + self.transient_bytes >= before.bytes + 20 * 2_000

    async def test_an_immediate_read_says_the_same(self, tier: Tier, clock: Clock) -> None:
        if not isinstance(tier, ImmediateTier):
            assert not hasattr(tier, "get_now")
            return
        await tier.put_many({key(1): entry(b"here")})
        now = tier.get_now(key(1))
        assert now is not None and now.payload == b"here" and now.expires_at_s < math.inf
        assert tier.get_now(key(2)) is None
        clock.now_s += TTL_S
        assert tier.get_now(key(1)) is None
