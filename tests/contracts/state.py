"""The contract suite for every StateStore. A subclass provides these fixtures:
`target`: the place of the state, for `open_target`; empty at the begin of each test,
`connect`: opens another store on the same state, which is closed at the end of the test,
`jump`: moves the clock that leases run by,
`example`: opens an empty state and returns a function that moves its clock, for each example of the model test."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from serve_app.errors import InvalidInput
from serve_app.state.store import (
    MAX_KEY_BYTES,
    MAX_PAGE,
    MAX_VALUE_BYTES,
    Lease,
    Refusal,
    Refused,
    StateChange,
    StateEntry,
    StateStore,
    Written,
)
from tests.contracts.state_child import increment, open_target, start, stop
from tests.contracts.state_model import Example, StateMachine

Connect = Callable[..., StateStore]
Jump = Callable[[float], None]
LONG_S = 3_600.0
CHANGED, ENDED = Refused(Refusal.VERSION), Refused(Refusal.LEASE)
DEADLINE_S = 60.0


async def put(state: StateStore, key: str, value: bytes = b"value") -> int:
    """Whatever version it has. Returns the new one."""
    entry = await state.get(key)
    written = await state.compare_and_set(key, value, expected=entry.version if entry else None)
    assert isinstance(written, Written)
    return written.version


async def remove(state: StateStore, key: str) -> int:
    entry = await state.get(key)
    assert entry is not None
    written = await state.delete(key, expected=entry.version)
    assert isinstance(written, Written)
    return written.version


async def leased(state: StateStore, name: str, ttl_s: float = LONG_S) -> Lease:
    lease = await state.acquire(name, ttl_s)
    assert lease is not None
    return lease


async def cursor_of(state: StateStore) -> int:
    gap = await state.changes(0)
    assert gap.is_gap and gap.changes == ()
    return gap.cursor


class StateContract:
    @pytest.fixture
    def state(self, connect: Connect) -> StateStore:
        return connect()

    async def test_a_value_comes_back_byte_for_byte_to_every_process(self, state: StateStore, connect: Connect) -> None:
        for value in (b"", b"\0", bytes(range(256)), bytes(MAX_VALUE_BYTES)):
            version = await put(state, "release/é", value)
            for reader in (state, connect()):
                assert await reader.get("release/é") == StateEntry("release/é", value, version)
        assert await state.get("release/e") is None

    async def test_a_write_needs_the_expected_version(self, state: StateStore) -> None:
        assert await state.compare_and_set("k", b"1", expected=1) == CHANGED
        assert await state.delete("k", expected=1) == CHANGED
        first = await put(state, "k", b"1")
        assert await state.compare_and_set("k", b"2", expected=None) == CHANGED
        assert await state.compare_and_set("k", b"2", expected=first + 1) == CHANGED
        assert await state.delete("k", expected=first - 1) == CHANGED
        assert await state.get("k") == StateEntry("k", b"1", first)
        second = await state.compare_and_set("k", b"2", expected=first)
        assert isinstance(second, Written) and second.version > first
        assert await state.compare_and_set("k", b"3", expected=first) == CHANGED
        assert await state.get("k") == StateEntry("k", b"2", second.version)

    async def test_a_version_never_returns_when_a_key_is_created_again(self, state: StateStore) -> None:
        seen = []
        for _ in range(3):
            seen.append(await put(state, "k"))
            seen.append(await remove(state, "k"))
            assert await state.get("k") is None
        assert seen == sorted(set(seen))
        again = await put(state, "k")
        for old in seen:
            assert await state.compare_and_set("k", b"late", expected=old) == CHANGED
        assert await state.get("k") == StateEntry("k", b"value", again)

    async def test_keys_are_listed_by_prefix_in_order_and_page_by_page(self, state: StateStore) -> None:
        keys = ["flag/", "flag/a", "flag/a/b", "flag/b", "flag/é", "flag/\U0001f600", "flag0", "fla", "release/1"]
        for key in random.sample(keys, len(keys)):
            await put(state, key, key.encode())
        await put(state, "flag/gone")
        await remove(state, "flag/gone")
        flags = keys[:6]
        listed = await state.list_prefix("flag/")
        assert [(entry.key, entry.value) for entry in listed] == [(key, key.encode()) for key in flags]
        assert [entry.key for entry in await state.list_prefix("")] == sorted(keys)
        assert await state.list_prefix("none/") == []
        pages, after = [], ""
        while page := await state.list_prefix("flag/", after=after, limit=2):
            pages.append([entry.key for entry in page])
            after = page[-1].key
        assert pages == [flags[:2], flags[2:4], flags[4:]]
        assert [entry.key for entry in await state.list_prefix("flag/", after="a")] == flags
        assert await state.list_prefix("flag/", after="g") == []

    async def test_what_is_out_of_bounds_is_refused(self, state: StateStore) -> None:
        for key in ("", "k" * (MAX_KEY_BYTES + 1), "\ud800"):
            with pytest.raises(InvalidInput, match="key of the state"):
                await state.get(key)
            with pytest.raises(InvalidInput, match="key of the state"):
                await state.compare_and_set(key, b"", expected=None)
            with pytest.raises(InvalidInput, match="key of the state"):
                await state.acquire(key, 1)
        with pytest.raises(InvalidInput, match="value of the state"):
            await state.compare_and_set("k", bytes(MAX_VALUE_BYTES + 1), expected=None)
        for limit in (0, MAX_PAGE + 1):
            with pytest.raises(InvalidInput, match="page of the state"):
                await state.changes(0, limit=limit)
            with pytest.raises(InvalidInput, match="page of the state"):
                await state.list_prefix("", limit=limit)
        for ttl_s in (0.0, -1.0, 1e9, float("nan")):
            with pytest.raises(InvalidInput, match="lease lasts"):
                await state.acquire("lease", ttl_s)
        await put(state, "k" * MAX_KEY_BYTES)

    async def test_the_feed_gives_the_newest_state_of_each_changed_key_in_order(
        self, state: StateStore, connect: Connect
    ) -> None:
        await put(state, "before")
        cursor = await cursor_of(state)
        assert await state.changes(cursor) == await connect().changes(cursor)
        assert (await state.changes(cursor)).changes == ()
        await put(state, "a", b"1")
        b, gone = await put(state, "b", b"1"), await put(state, "gone")
        gone, a = await remove(state, "gone"), await put(state, "a", b"2")
        expected = (StateChange("b", b"1", b), StateChange("gone", None, gone), StateChange("a", b"2", a))
        feed = await connect().changes(cursor)
        assert (feed.changes, feed.is_gap) == (expected, False)
        first = await state.changes(cursor, limit=2)
        assert (first.changes, first.cursor) == (expected[:2], gone)
        second = await state.changes(first.cursor, limit=2)
        assert (second.changes, second.cursor) == (expected[2:], feed.cursor)
        assert (await state.changes(feed.cursor)).changes == ()

    async def test_a_cursor_that_the_feed_does_not_reach_is_a_gap(self, connect: Connect) -> None:
        state = connect(deletions_kept=2)
        old = await put(state, "old")
        cursor = await cursor_of(state)
        for number in range(3):
            await put(state, f"k{number}")
        before = (await state.changes(cursor)).cursor
        for number in range(2):
            await remove(state, f"k{number}")
        assert [change.key for change in (await state.changes(cursor)).changes] == ["k2", "k0", "k1"]
        await remove(state, "k2")  # forgets the deletion of k0
        for too_old in (0, cursor, before):
            assert (await state.changes(too_old)).is_gap
        gap = await state.changes(cursor)
        assert (await state.changes(gap.cursor)).changes == ()
        assert not (await state.changes(gap.cursor)).is_gap
        assert (await state.changes(gap.cursor + 1)).is_gap  # of a history that was lost
        again = await put(state, "k1")
        assert (await state.changes(gap.cursor)).changes == (StateChange("k1", b"value", again),)
        assert await state.get("old") == StateEntry("old", b"value", old)

    async def test_a_key_that_is_created_again_is_no_deletion_to_forget(self, connect: Connect) -> None:
        state = connect(deletions_kept=2)
        cursor = await cursor_of(state)
        await put(state, "again")
        await remove(state, "again")
        again = await put(state, "again")
        deleted = []
        for number in range(2):
            await put(state, f"k{number}")
            deleted.append(await remove(state, f"k{number}"))
        changes = (StateChange("again", b"value", again), *map(StateChange, ("k0", "k1"), (None, None), deleted))
        assert (await state.changes(cursor)).changes == changes
        assert await state.compare_and_set("again", b"2", expected=again) == Written(deleted[-1] + 1)

    async def test_a_lease_has_one_holder(self, state: StateStore, connect: Connect) -> None:
        other = connect()
        lease = await leased(state, "rollout")
        assert await other.acquire("rollout", LONG_S) is None
        assert await state.acquire("rollout", LONG_S) is None
        elsewhere = await leased(other, "index")
        assert await other.renew(lease) and await other.release(lease)
        assert not await state.renew(lease) and not await state.release(lease)
        again = await leased(other, "rollout")
        assert lease.token < elsewhere.token < again.token
        assert not await state.release(lease)  # is not the new holder's
        assert await other.renew(again)

    async def test_a_lease_ends_by_the_stores_clock(self, state: StateStore, jump: Jump) -> None:
        lease = await leased(state, "rollout", 60)
        jump(40)
        assert await state.renew(lease)
        jump(40)
        assert await state.acquire("rollout", 60) is None
        jump(20)
        assert not await state.renew(lease) and not await state.release(lease)
        successor = await leased(state, "rollout", 60)
        assert successor.token > lease.token
        assert not await state.renew(lease) and await state.renew(successor)

    async def test_a_clock_that_goes_back_ends_a_lease_and_does_not_prolong_it(
        self, state: StateStore, jump: Jump
    ) -> None:
        lease = await leased(state, "rollout", 60)
        jump(-86_400)
        successor = await leased(state, "rollout", 60)
        assert successor.token > lease.token
        assert not await state.renew(lease) and await state.renew(successor)
        assert await state.compare_and_set("k", b"late", expected=None, fence=lease) == ENDED

    async def test_a_fenced_write_needs_its_lease(self, state: StateStore, jump: Jump) -> None:
        lease = await leased(state, "rollout", 60)
        written = await state.compare_and_set("k", b"1", expected=None, fence=lease)
        assert isinstance(written, Written)
        assert await state.compare_and_set("k", b"2", expected=None, fence=lease) == CHANGED
        forged = Lease("rollout", lease.token + 1, 60)
        other_name = Lease("index", lease.token, 60)
        for fence in (forged, other_name):
            assert await state.compare_and_set("k", b"2", expected=written.version, fence=fence) == ENDED
        jump(60)  # nobody took it
        assert await state.compare_and_set("k", b"2", expected=written.version, fence=lease) == ENDED
        successor = await leased(state, "rollout", 60)
        assert await state.delete("k", expected=written.version, fence=lease) == ENDED
        assert await state.get("k") == StateEntry("k", b"1", written.version)
        assert isinstance(await state.delete("k", expected=written.version, fence=successor), Written)
        assert await state.release(successor)
        assert await state.compare_and_set("k", b"2", expected=None, fence=successor) == ENDED

    async def test_of_many_that_want_a_lease_at_once_one_gets_it(self, connect: Connect) -> None:
        tokens = []
        for _ in range(5):
            leases = await asyncio.gather(*(connect().acquire("rollout", LONG_S) for _ in range(8)))
            [lease] = [lease for lease in leases if lease]
            tokens.append(lease.token)
            assert await connect().release(lease)
        assert tokens == sorted(set(tokens))

    def test_it_does_what_the_model_does(self, example: Example) -> None:
        run_state_machine_as_test(
            lambda: StateMachine(example), settings=settings(max_examples=25, stateful_step_count=60)
        )

    def test_two_processes_lose_no_increment(self, target: str) -> None:
        processes = [start(target, "count", "counter", 150) for _ in range(2)]
        for process in processes:
            process.communicate(timeout=DEADLINE_S)
        assert [process.returncode for process in processes] == [0, 0]
        assert asyncio.run(read(target, "counter")) == b"300"

    async def test_a_holder_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on(
        self, target: str, state: StateStore
    ) -> None:
        holder = start(target, "hold", "rollout", 2.0, "plan")
        try:
            token = int(await in_thread(holder.stdout.readline))
            assert await state.acquire("rollout", LONG_S) is None
            holder.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(DEADLINE_S):
                while (successor := await state.acquire("rollout", LONG_S)) is None:  # noqa: ASYNC110 (a process)
                    await asyncio.sleep(0.05)
            assert successor.token > token
            entry = await state.get("plan")
            assert entry is not None and entry.value == b"holder"
            written = await state.compare_and_set("plan", b"successor", expected=entry.version, fence=successor)
            assert isinstance(written, Written)
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            holder.send_signal(signal.SIGCONT)
            assert (await in_thread(holder.stdout.readline)).split() == ["LEASE", "False"]
            assert await state.get("plan") == StateEntry("plan", b"successor", written.version)
            assert await state.renew(successor)
        finally:
            stop(holder)

    async def test_a_writer_killed_at_random_leaves_every_acknowledged_write(
        self, target: str, state: StateStore
    ) -> None:
        acknowledged, newest = 0, 0
        for _ in range(5):
            writer = start(target, "count_for_ever", "counter")
            versions = [int(await in_thread(writer.stdout.readline))]
            await asyncio.sleep(random.uniform(0, 0.1))
            versions += map(int, (await in_thread(stop, writer)).split("\n")[:-1])  # the last may be half a line
            assert versions == sorted(set(versions)) and versions[0] > newest
            entry = await state.get("counter")
            assert entry is not None and entry.version >= versions[-1]
            acknowledged, newest = acknowledged + len(versions), entry.version
            # One write a killed process may have made and not told of.
            assert acknowledged <= int(entry.value) <= acknowledged + 1
            acknowledged = int(entry.value)
            newest = await increment(state, "counter")
            acknowledged += 1

    async def test_a_reader_misses_no_change_of_concurrent_writers(self, target: str, state: StateStore) -> None:
        cursor = await cursor_of(state)
        writers = [start(target, "write", name, 150) for name in ("a", "b", "c")]
        seen: list[StateChange] = []
        ended = False
        while not ended:
            ended = all(writer.poll() is not None for writer in writers)  # read once more after that
            feed = await state.changes(cursor, limit=4)
            while len(feed.changes) == 4:
                seen += feed.changes
                feed = await state.changes(feed.cursor, limit=4)
            assert not feed.is_gap
            seen, cursor = [*seen, *feed.changes], feed.cursor
        acknowledged: dict[str, int] = {}
        for writer in writers:
            output, _ = writer.communicate()
            assert writer.returncode == 0
            acknowledged |= {key: int(version) for version, key in map(str.split, output.splitlines())}
        versions = [change.version for change in seen]
        assert versions == sorted(set(versions))
        assert {change.key: change.version for change in seen} == acknowledged
        entries = {change.key: change for change in seen}
        listed = await state.list_prefix("")
        assert listed == [
            StateEntry(key, change.value, change.version)
            for key, change in sorted(entries.items())
            if change.value is not None
        ]


async def read(target: str, key: str) -> bytes | None:
    state = open_target(target)
    entry = await state.get(key)
    await state.close()
    return entry and entry.value


async def in_thread(call: Callable[..., str], *arguments: object) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.to_thread(call, *arguments)
