"""Whatever is done in whatever order, an entry is the value that was put under its key, or absent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serve_app.cache import tiered
from serve_app.cache.entry import EntryKind
from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.guarded import GuardedTier, guard
from serve_app.cache.tiers.lmdb import LmdbTier, SharedMemoryTier
from serve_app.cache.tiers.memory import SLOT_BYTES, MemoryTier
from serve_app.cache.tiers.segments import Segments
from serve_app.errors import NotFound, Unavailable
from serve_app.telemetry.meter import Meter
from tests.contracts.cache_tier import Clock, key
from tests.serve_app.cache.tiers.test_guarded import FailingTier
from tests.serve_app.telemetry.counted import counted

NAMES = st.integers(0, 12)
PAYLOADS = st.builds(lambda letter, size: letter * size, st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 9_000))
KIND = EntryKind.RESULT


@pytest.fixture(autouse=True, scope="module")
def write_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiered, "WRITE_PAUSE_S", 0)
        yield


class TieredAgainstModel(RuleBasedStateMachine):
    """`right[name]`: the payloads an answer may be. More than one only while a tier that failed may hold an old one."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        self._clock = Clock()
        self._failing = FailingTier(40 * SLOT_BYTES, 60, name="l3", clock=self._clock)
        root = Path(self._folder.name)
        shared = Segments(root / "l2", 1 << 18, 40, self._clock)
        disk = Segments(root / "l4", 1 << 19, 100, self._clock)
        self._meter = Meter()
        self._cache = Tiered(
            [
                MemoryTier(20 * SLOT_BYTES, 20, clock=self._clock),
                guard(SharedMemoryTier("l2", shared), 30, self._meter),
                GuardedTier(self._failing, 30, self._meter, self._clock),
                guard(LmdbTier("l4", disk), 30, self._meter),
            ],
            negative_ttl_s=10,
            clock=self._clock,
        )
        self._right: dict[int, set[bytes]] = {}
        self._absent: set[int] = set()

    def _run(self, work: object) -> object:
        async def run() -> object:
            answer = await work  # type: ignore[misc]
            await self._cache.flush()
            return answer

        return self._loop.run_until_complete(run())

    def _was_put(self, name: int, payload: bytes) -> None:
        is_answering = counted(self._meter, "aidocs_cache_pause_seconds", tier="l3") == {"": 0}
        old = set() if is_answering else self._right.get(name, set())
        self._right[name] = old | {payload}
        self._absent.discard(name)

    @rule(name=NAMES, payload=PAYLOADS)
    def put(self, name: int, payload: bytes) -> None:
        self._run(self._cache.put(KIND, key(name), payload))
        self._was_put(name, payload)

    @rule(name=NAMES)
    def get(self, name: int) -> None:
        try:
            found = self._run(self._cache.get(KIND, key(name)))
        except NotFound:
            assert name in self._absent
        else:
            assert found is None or found.payload in self._right.get(name, set())  # type: ignore[attr-defined]

    @rule(names=st.lists(NAMES, max_size=6))
    def get_many(self, names: list[int]) -> None:
        found = self._run(self._cache.get_many(KIND, [key(name) for name in names]))
        assert all(
            found[key(name)].payload in self._right[name]
            for name in names
            if key(name) in found  # type: ignore[index, operator]
        )

    @rule(name=NAMES, payload=PAYLOADS | st.none())
    def compute(self, name: int, payload: bytes | None) -> None:
        async def work() -> bytes:
            if payload is None:
                raise NotFound("nothing")
            return payload

        try:
            found = self._run(self._cache.get_or_compute(KIND, key(name), work))
        except NotFound:
            assert payload is None or name in self._absent
            self._absent.add(name)
        else:
            if found.tier == "miss":  # type: ignore[attr-defined]
                assert found.payload == payload  # type: ignore[attr-defined]
                self._was_put(name, payload or b"")
            else:
                assert found.payload in self._right[name]  # type: ignore[attr-defined]

    @rule(seconds=st.sampled_from([0.5, 5, 15, 35, 120]))
    def time_passes(self, seconds: float) -> None:
        self._clock.now_s += seconds

    @rule(fails=st.booleans())
    def a_tier_fails_or_recovers(self, fails: bool) -> None:
        self._failing.error = Unavailable("down") if fails else None

    @rule(number=st.integers(0, 3))
    def a_tier_forgets(self, number: int) -> None:
        self._run(self._cache._tiers[number].clear())

    @rule()
    def clear(self) -> None:
        self._run(self._cache.clear())
        self._right.clear()
        self._absent.clear()

    @invariant()
    def sizes_hold(self) -> None:
        for usage in self._run(self._cache.usage()).values():  # type: ignore[attr-defined]
            assert usage.bytes <= usage.limit_bytes

    def teardown(self) -> None:
        self._run(self._cache.close())
        self._loop.close()
        self._folder.cleanup()


TieredAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestTieredAgainstModel = TieredAgainstModel.TestCase
