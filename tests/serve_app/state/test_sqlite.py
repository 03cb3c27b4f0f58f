"""State in a SQLite file: the contract, and the properties of a file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve_app.errors import StateUnavailable
from serve_app.state.sqlite import SqliteState, seconds_since_boot
from serve_app.state.store import StateEntry, StateStore
from tests.contracts.state import LONG_S, Connect, StateContract, leased, put, read
from tests.contracts.state_model import DELETIONS_KEPT, Example

TIMEOUT_S = 30.0  # the disk of a busy machine takes seconds for a commit


class Clock:
    """The machine's, which a test can move."""

    def __init__(self) -> None:
        self.moved_s = 0.0

    def __call__(self) -> float:
        return seconds_since_boot() + self.moved_s

    def jump(self, seconds: float) -> None:
        self.moved_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite3"


@pytest.fixture
async def connect(path: Path, clock: Clock) -> AsyncIterator[Connect]:
    async with contextlib.AsyncExitStack() as stack:

        def connect(**options: float) -> SqliteState:
            state = SqliteState(path, clock=clock, **{"timeout_s": TIMEOUT_S, **options})  # type: ignore[arg-type]
            stack.push_async_callback(state.close)
            return state

        yield connect


class TestContract(StateContract):
    @pytest.fixture
    def target(self, path: Path) -> str:
        return str(path)

    @pytest.fixture
    def jump(self, clock: Clock) -> Callable[[float], None]:
        return clock.jump

    @pytest.fixture
    def example(self, tmp_path: Path) -> Example:
        opened = iter(range(10**9))

        async def example() -> tuple[StateStore, Callable[[float], None]]:
            clock = Clock()
            path = tmp_path / str(next(opened)) / "state.sqlite3"
            state = SqliteState(path, clock=clock, timeout_s=TIMEOUT_S, deletions_kept=DELETIONS_KEPT)
            return state, clock.jump

        return example


async def test_the_file_is_readable_by_its_owner_alone(path: Path, connect: Connect) -> None:
    await put(connect(), "key/1", b"secret")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {f"state.sqlite3{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_many_can_open_a_new_file_at_once(connect: Connect) -> None:
    leases = await asyncio.gather(*(connect(timeout_s=60).acquire(f"lease{number}", LONG_S) for number in range(8)))
    assert len({lease.token for lease in leases if lease}) == 8


async def test_a_writer_that_stands_still_costs_writes_a_timeout_and_reads_nothing(
    path: Path, connect: Connect
) -> None:
    state = connect(timeout_s=3)
    version = await put(state, "k", b"1")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    begun_s = time.monotonic()
    with pytest.raises(StateUnavailable, match="locked"):
        await state.compare_and_set("k", b"2", expected=version)
    with pytest.raises(StateUnavailable, match="locked"):
        await connect(timeout_s=3).acquire("lease", LONG_S)
    assert time.monotonic() - begun_s < 20
    writing = asyncio.create_task(connect(timeout_s=60).acquire("lease", LONG_S))
    assert await state.get("k") == StateEntry("k", b"1", version)
    blocker.close()
    assert await writing is not None
    assert await put(state, "k", b"2") > version


async def test_a_call_that_waits_too_long_behind_others_is_never_made(path: Path, connect: Connect) -> None:
    state = connect(timeout_s=3)
    version = await put(state, "k", b"1")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writes = [state.compare_and_set("k", b"2", expected=version) for _ in range(8)]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(answer, StateUnavailable) for answer in answers)
    blocker.close()
    assert await put(state, "other") > version  # is behind them in the thread
    assert await state.get("k") == StateEntry("k", b"1", version)


def test_a_file_that_is_no_state_says_so_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_bytes(b"something else, and longer than the header of a database file. " * 20)
    before = path.read_bytes()
    with pytest.raises(StateUnavailable, match=r"state\.sqlite3 cannot be used: file is not a database"):
        asyncio.run(read(str(path), "k"))
    assert path.read_bytes() == before


async def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = SqliteState(tmp_path / "file" / "state.sqlite3")
    with pytest.raises(StateUnavailable, match="cannot be used"):
        await state.get("k")
    await state.close()


async def test_after_close_calls_are_refused(connect: Connect) -> None:
    state = connect()
    await put(state, "k")
    await state.close()
    with pytest.raises(StateUnavailable, match="closed"):
        await state.get("k")


async def test_a_state_that_nobody_used_leaves_no_file(path: Path, connect: Connect) -> None:
    state = connect()
    await state.close()
    await state.close()
    assert not path.parent.exists()


async def test_the_date_has_no_part_in_a_lease(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    state = connect()
    lease = await leased(state, "rollout", 60)
    for date_s in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda date_s=date_s: date_s)
        assert await state.acquire("rollout", 60) is None
        assert await state.renew(lease)


async def test_a_lease_of_before_a_reboot_has_ended(connect: Connect, clock: Clock) -> None:
    state = connect()
    await leased(state, "rollout", 60)
    clock.jump(-seconds_since_boot())  # the machine is up for no time yet
    assert await state.acquire("rollout", 60) is not None
