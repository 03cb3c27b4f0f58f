"""A small model of a StateStore, and a state machine that compares model and store on random histories."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve_app.state.store import Lease, Refusal, Refused, StateChange, StateEntry, StateStore, Written

Example = Callable[[], Coroutine[Any, Any, tuple[StateStore, Callable[[float], None]]]]
T = TypeVar("T")
KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "é"])
NAMES = st.sampled_from(["rollout", "index"])
VALUES = st.none() | st.binary(max_size=3)
TTL_S = 60.0
JUMPS_S = st.sampled_from([-90.0, -30.0, 30.0, 60.0, 100.0])  # far from each other: the real clock goes on as well
DELETIONS_KEPT = 1


@dataclass
class Held:
    lease: Lease
    begins_s: float


class StateMachine(RuleBasedStateMachine):
    def __init__(self, example: Example) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state, self.jump_clock = self.run(example())
        self.now_s = 0.0
        self.entries: dict[str, StateEntry] = {}
        self.deletions: dict[str, int] = {}  # oldest first
        self.held: dict[str, Held] = {}
        self.leases: list[Lease] = []
        self.cursor = self.run(self.state.changes(0)).cursor
        self.floor = self.revision = self.cursor

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.run(self.state.close())
        self.runner.close()

    def is_held(self, lease: Lease) -> bool:
        held = self.held.get(lease.name)
        return held is not None and held.lease == lease and held.begins_s <= self.now_s < held.begins_s + TTL_S

    def accept(self, version: int) -> None:
        assert version > self.revision
        self.revision = version

    @rule(key=KEYS, value=VALUES, guess=st.sampled_from([0, 0, 0, -1]), data=st.data())
    def write(self, key: str, value: bytes | None, guess: int, data: st.DataObject) -> None:
        """value: None deletes. guess: -1 takes a version that the key does not have."""
        fence = data.draw(st.sampled_from([None] * 4 + self.leases[-2:]))
        current = self.entries[key].version if key in self.entries else None
        expected = current if guess == 0 else (current or 1) - 1
        answer = self.run(self.call(key, value, expected, fence))
        if fence is not None and not self.is_held(fence):
            assert answer == Refused(Refusal.LEASE)
        elif expected != current or (value is None and current is None):
            assert answer == Refused(Refusal.VERSION)
        else:
            self.take(key, value, answer)

    async def call(self, key: str, value: bytes | None, expected: int | None, fence: Lease | None) -> Written | Refused:
        if value is None:
            return await self.state.delete(key, expected=expected or 0, fence=fence)
        return await self.state.compare_and_set(key, value, expected=expected, fence=fence)

    def take(self, key: str, value: bytes | None, answer: Written | Refused) -> None:
        assert isinstance(answer, Written)
        self.accept(answer.version)
        self.deletions.pop(key, None)
        if value is not None:
            self.entries[key] = StateEntry(key, value, answer.version)
        else:
            del self.entries[key]
            self.deletions[key] = answer.version
        if len(self.deletions) > DELETIONS_KEPT:
            self.floor = self.deletions.pop(next(iter(self.deletions)))

    @rule(key=KEYS, value=VALUES)
    def write_at_once(self, key: str, value: bytes | None) -> None:
        """The common case, so that histories have many versions."""
        current = self.entries[key].version if key in self.entries else None
        if current is not None or value is not None:
            self.take(key, value, self.run(self.call(key, value, current, None)))

    @rule(name=NAMES)
    def acquire(self, name: str) -> None:
        lease = self.run(self.state.acquire(name, TTL_S))
        assert (lease is None) == (name in self.held and self.is_held(self.held[name].lease))
        if lease is not None:
            self.accept(lease.token)
            self.held[name] = Held(lease, self.now_s)
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ends=st.booleans())
    def renew_or_release(self, data: st.DataObject, ends: bool) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        was_held = self.is_held(lease)
        assert self.run(self.state.release(lease) if ends else self.state.renew(lease)) == was_held
        if was_held and ends:
            del self.held[lease.name]
        elif was_held:
            self.held[lease.name].begins_s = self.now_s

    @rule(seconds=JUMPS_S)
    def jump(self, seconds: float) -> None:
        self.jump_clock(seconds)
        self.now_s += seconds

    @rule()
    def follow(self) -> None:
        feed = self.run(self.state.changes(self.cursor))
        assert feed.is_gap == (self.cursor < self.floor)
        if not feed.is_gap:
            changes = [StateChange(entry.key, entry.value, entry.version) for entry in self.entries.values()]
            changes += [StateChange(key, None, version) for key, version in self.deletions.items()]
            newer = [change for change in changes if change.version > self.cursor]
            assert feed.changes == tuple(sorted(newer, key=lambda change: change.version))
        assert feed.cursor == self.revision
        self.cursor = feed.cursor

    @invariant()
    def entries_agree(self) -> None:
        for prefix in ("", "a/"):
            expected = [entry for key, entry in sorted(self.entries.items()) if key.startswith(prefix)]
            assert self.run(self.state.list_prefix(prefix)) == expected
        for key in ("a", "é"):
            assert self.run(self.state.get(key)) == self.entries.get(key)
