"""Shared memory and disk: the suite on both, several processes, damage and kill -9."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import lmdb
import pytest

from serve_app.cache.tiers import segments as segments_module
from serve_app.cache.tiers.lmdb import LmdbTier, SharedMemoryTier
from serve_app.cache.tiers.segments import Segments
from serve_app.cache.tiers.tier import Tier
from serve_app.errors import ConfigurationError, Unavailable
from tests.contracts.cache_tier import TTL_S, CacheTierContract, Clock, entry, key

MIB = 1024 * 1024
CLASSES = [LmdbTier, SharedMemoryTier]


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestLmdbTier(CacheTierContract):
    @pytest.fixture(params=CLASSES)
    async def tier(self, request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Tier]:
        tier = request.param("l4", Segments(tmp_path / "cache", MIB, TTL_S, clock))
        yield tier
        await tier.close()


def child(code: str, *arguments: object, limit_bytes: int = MIB) -> subprocess.Popen[str]:
    """A process that has `segments` on the folder named first."""
    start = (
        "import sys, pathlib\nfrom serve_app.cache.tiers.segments import Segments\n"
        "from tests.contracts.cache_tier import entry, key\n"
        f"segments = Segments(pathlib.Path(sys.argv[1]), {limit_bytes}, {TTL_S})\n"
    )
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_entry_survives_its_process_and_is_seen_by_others(tmp_path: Path) -> None:
    with child("segments.put_many({key(1): entry(b'from elsewhere')})", tmp_path / "cache") as process:
        assert process.wait(timeout=30) == 0
    found, _ = Segments(tmp_path / "cache", MIB, TTL_S).get_many([key(1)])
    assert found[key(1)].payload == b"from elsewhere"


def test_processes_that_fill_it_together_stay_within_its_size(tmp_path: Path) -> None:
    """Each rotates under the others. Nothing is ever another's, and what was put last is there."""
    code = (
        "for n in range(900):\n"
        "    segments.put_many({key((sys.argv[2], n)): entry(str(n).encode() * 300)})\n"
        "    found, _ = segments.get_many([key((who, n)) for who in 'ab'])\n"
        "    assert {e.payload for e in found.values()} <= {str(n).encode() * 300}\n"
        "print('done')"
    )
    processes = [child(code, tmp_path / "cache", who) for who in "ab"]
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    while any(process.poll() is None for process in processes):
        assert segments.usage().bytes <= 2 * MIB  # generations that come and go may be counted together
    assert [process.communicate(timeout=30)[0] for process in processes] == ["done\n"] * 2
    assert segments.usage().bytes <= MIB
    found, _ = segments.get_many([key((who, 899)) for who in "ab"])
    assert {e.payload for e in found.values()} == {b"899" * 300}


@pytest.mark.parametrize("first_bytes", [MIB, 8 * MIB])
def test_processes_of_different_limits_share_it(tmp_path: Path, first_bytes: int) -> None:
    """As where one started on a fuller disk: each sees what the other puts, and keeps to its own limit."""
    folder = tmp_path / "cache"
    if first_bytes == MIB:
        small = Segments(folder, MIB, TTL_S)
    code = (
        "segments.put_many({key(n): entry(bytes(1000)) for n in range(2000)})\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(len(segments.get_many([key(sys.argv[2])])[0]), flush=True)\n"
    )
    with child(code, folder, "of the small one", limit_bytes=8 * MIB) as large:
        assert large.stdin is not None and large.stdout is not None and large.stdout.readline() == "ready\n"
        if first_bytes == 8 * MIB:
            small = Segments(folder, MIB, TTL_S)
        assert len(small.get_many([key(n) for n in range(2_000)])[0]) > 100
        for n in range(2_000, 4_000, 100):
            small.put_many({key(n): entry(bytes(1_000)) for n in range(n, n + 100)})
        small.put_many({key("of the small one"): entry(b"x")})
        assert small.usage().bytes <= MIB
        large.stdin.write("\n")
        large.stdin.flush()
        assert large.stdout.readline() == "1\n"
        large.stdin.close()
    assert large.returncode == 0


def test_a_writer_that_is_killed_leaves_a_cache_that_works(tmp_path: Path) -> None:
    """Every entry is right or absent, at once and without repair, and the next writer does not wait."""
    code = (
        "import random\nprint('ready', flush=True)\n"
        "while True:\n"
        "    n = random.randrange(5000)\n"
        "    segments.put_many({key(m): entry(str(m).encode() * 300) for m in range(n, n + 5)})\n"
    )
    generator = random.Random(7)
    for _ in range(4):
        process = child(code, tmp_path / "cache")
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        segments = Segments(tmp_path / "cache", MIB, TTL_S)
        found, _ = segments.get_many([key(n) for n in range(5_005)])
        assert found
        for n in range(5_005):
            assert key(n) not in found or found[key(n)].payload == str(n).encode() * 300
        segments.put_many({key("after"): entry(b"the kill")})
        assert segments.get_many([key("after")])[0][key("after")].payload == b"the kill"
        segments.close()


@pytest.mark.parametrize("damage", ["first page", "every byte", "cut off", "emptied"])
def test_a_damaged_file_begins_anew(tmp_path: Path, damage: str) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(n): entry(bytes(1_000)) for n in range(100)})
    segments.close()
    for path in (tmp_path / "cache").glob("*.lmdb"):
        content = bytearray(path.read_bytes())
        if damage == "first page":
            content[: 2 * 4_096] = random.Random(1).randbytes(2 * 4_096)
        elif damage == "every byte":
            content[:] = random.Random(2).randbytes(len(content))
        path.write_bytes({"cut off": content[:5_000], "emptied": b""}.get(damage, bytes(content)))
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    found, _ = segments.get_many([key(n) for n in range(100)])
    assert all(e.payload == bytes(1_000) for e in found.values())
    segments.put_many({key("new"): entry(b"new")})
    assert segments.get_many([key("new")])[0][key("new")].payload == b"new"


def test_a_flipped_byte_of_a_payload_is_a_miss(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(1): entry(b"A" * 1_000), key(2): entry(b"B" * 1_000)})
    segments.close()
    (path,) = (tmp_path / "cache").glob("*.lmdb")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"A" * 1_000, b"A" * 999 + b"a"))
    found, _ = Segments(tmp_path / "cache", MIB, TTL_S).get_many([key(1), key(2)])
    assert found.keys() == {key(2)}


async def test_what_is_still_asked_for_survives_the_rotations(tmp_path: Path) -> None:
    tier = LmdbTier("l4", Segments(tmp_path / "cache", MIB, TTL_S))
    await tier.put_many({key("hot"): entry(b"hot"), key("cold"): entry(b"cold")})
    for number in range(2_000):
        await tier.put_many({key(number): entry(bytes(1_000))})
        assert key("hot") in await tier.get_many([key("hot")])
    assert await tier.get_many([key("cold")]) == {}
    await tier.close()


def test_an_aged_entry_is_not_kept_over_a_newer_one(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(1): entry(b"old")})
    segments._rotate()
    _, aged = segments.get_many([key(1)])
    assert aged[key(1)].payload == b"old"
    segments.put_many({key(1): entry(b"new")})
    segments.keep(aged)
    assert segments.get_many([key(1)])[0][key(1)].payload == b"new"


def test_expired_entries_leave_the_disk(tmp_path: Path, clock: Clock) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S, clock)
    segments.put_many({key(1): entry(b"a person's name")})
    for _ in range(2):
        clock.now_s += TTL_S + 1
        segments.put_many({key(2): entry(b"other")})
    assert not any(b"a person's name" in path.read_bytes() for path in (tmp_path / "cache").glob("*"))


def test_damage_that_lmdb_finds_later_is_a_failure_once_and_gone_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise lmdb.CorruptedError("a page")

    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(1): entry(b"old")})
    with monkeypatch.context() as patch:
        patch.setattr(segments_module, "read", damaged)
        with pytest.raises(Unavailable, match="damaged"):
            segments.get_many([key(1)])
    segments.put_many({key(2): entry(b"new")})
    assert segments.get_many([key(1), key(2)])[0].keys() == {key(2)}


def test_what_is_left_from_before_a_boot_is_gone(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(1): entry()})
    segments.close()
    (tmp_path / "cache" / "boot").write_text("another boot")
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    assert segments.get_many([key(1)])[0] == {}


def test_a_folder_is_private(tmp_path: Path) -> None:
    Segments(tmp_path / "cache", MIB, TTL_S)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    with pytest.raises(ConfigurationError, match="link"):
        Segments(tmp_path / "link", MIB, TTL_S)


def test_a_folder_opened_twice_in_one_process_says_so(tmp_path: Path) -> None:
    first = Segments(tmp_path / "cache", MIB, TTL_S)
    with pytest.raises(ConfigurationError, match="already open"):
        Segments(tmp_path / "cache", MIB, TTL_S)
    first.close()


def test_a_process_stopped_in_a_rotation_does_not_stop_readers(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "cache", MIB, TTL_S)
    segments.put_many({key(1): entry(b"here")})
    code = (
        "from serve_app.cache.tiers.shared_folder import locked\nfrom serve_app.cache.tiers.segments import CURRENT\n"
        "with locked(pathlib.Path(sys.argv[1]), 5):\n"
        "    CURRENT.pack_into(segments._current, 0, segments._generation() + 1, 2e9)\n"
        "    print('in the middle', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = child(code, tmp_path / "cache")
    assert process.stdout is not None and process.stdout.readline() == "in the middle\n"
    assert segments.get_many([key(1)])[0][key(1)].payload == b"here"
    process.kill()
    process.communicate(timeout=30)
    assert segments.get_many([key(1)])[0][key(1)].payload == b"here"
    segments.put_many({key(2): entry(b"next")})
    assert segments._open[0][0] == segments._generation()


@pytest.mark.parametrize("cls", CLASSES)
async def test_a_closed_tier_is_unavailable(cls: type[LmdbTier], tmp_path: Path) -> None:
    tier = cls("l4", Segments(tmp_path / "cache", MIB, TTL_S))
    await tier.close()
    with pytest.raises(Unavailable):
        await tier.get_many([key(1)])
    with pytest.raises(Unavailable):
        await tier.put_many({key(1): entry()})
    if isinstance(tier, SharedMemoryTier):
        assert tier.get_now(key(1)) is None


async def test_a_writer_stopped_in_a_transaction_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    """Its lock is waited for in a thread, where a time limit ends the waiting."""
    code = "with segments._open[0][1].begin(write=True):\n    print('writing', flush=True)\n    sys.stdin.read()\n"
    tier = SharedMemoryTier("l2", Segments(tmp_path / "cache", MIB, TTL_S))
    await tier.put_many({key(1): entry(b"here")})
    process = child(code, tmp_path / "cache")
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "writing\n"
    late = asyncio.ensure_future(tier.put_many({key(2): entry(b"late")}))
    await asyncio.wait([late], timeout=0.05)
    found = tier.get_now(key(1))
    assert found is not None and not late.done()
    await asyncio.to_thread(process.communicate, timeout=30)
    await asyncio.wait_for(late, 30)
    assert tier.get_now(key(2)) is not None
    await tier.close()
