"""A separate process that uses the state, for tests that stop or kill it.
python -m tests.contracts.state_child TARGET ACTION ARGUMENT…"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

from serve_app.redis_client import connect
from serve_app.state.redis import RedisState
from serve_app.state.sqlite import SqliteState
from serve_app.state.store import Refused, StateStore, Written

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30.0
KEYS_OF_A_WRITER = 5


def open_target(target: str) -> StateStore:
    """target: a Redis URL, or the path of a SQLite file."""
    if "://" in target:
        return RedisState(connect(target, TIMEOUT_S), timeout_s=TIMEOUT_S)
    return SqliteState(Path(target), timeout_s=TIMEOUT_S)


def start(target: str, action: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contracts.state_child", target, action, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def stop(process: subprocess.Popen[str]) -> str:
    """Kill it. Returns what it printed and nobody read yet."""
    assert process.stdin and process.stdout
    process.kill()
    rest = process.stdout.read()  # `communicate` would leave out what `readline` has in its buffer
    process.wait(TIMEOUT_S)
    process.stdout.close()
    process.stdin.close()
    return rest


async def increment(state: StateStore, key: str) -> int:
    """By compare-and-set, as often as it takes. Returns the new version."""
    while True:
        entry = await state.get(key)
        value = b"%d" % (int(entry.value) + 1 if entry else 1)
        written = await state.compare_and_set(key, value, expected=entry.version if entry else None)
        if isinstance(written, Written):
            return written.version


async def count(state: StateStore, key: str, times: str) -> None:
    for _ in range(int(times)):
        await increment(state, key)


async def count_for_ever(state: StateStore, key: str) -> None:
    """Prints the version of each acknowledged increment."""
    while True:
        print(await increment(state, key), flush=True)


async def write(state: StateStore, prefix: str, times: str) -> None:
    """To keys that nobody else writes; every seventh change is a deletion. Prints the version and the key of each."""
    versions: dict[str, int] = {}
    for number in itertools.islice(itertools.count(), int(times)):
        key = f"{prefix}/{number % KEYS_OF_A_WRITER}"
        expected = versions.pop(key, None)
        if number % 7 == 0 and expected is not None:
            written = await state.delete(key, expected=expected)
            assert isinstance(written, Written)
        else:
            written = await state.compare_and_set(key, b"%d" % number, expected=expected)
            assert isinstance(written, Written)
            versions[key] = written.version
        print(written.version, key, flush=True)


async def hold(state: StateStore, name: str, ttl_s: str, key: str) -> None:
    """Take a lease, write, wait for a line of input without a thread of its own, write again, renew."""
    lease = await state.acquire(name, float(ttl_s))
    assert lease is not None
    first = await state.compare_and_set(key, b"holder", expected=None, fence=lease)
    assert isinstance(first, Written)
    print(lease.token, flush=True)
    sys.stdin.readline()
    current = await state.get(key)
    assert current is not None
    late = await state.compare_and_set(key, b"late", expected=current.version, fence=lease)
    print(late.reason.name if isinstance(late, Refused) else "written", await state.renew(lease), flush=True)


async def main(target: str, action: str, *arguments: str) -> None:
    state = open_target(target)
    actions = {"count": count, "count_for_ever": count_for_ever, "write": write, "hold": hold}
    await actions[action](state, *arguments)
    await state.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
