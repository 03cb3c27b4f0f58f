from __future__ import annotations

import pytest

from jobs.index import run as index_run
from jobs.runtime import patience
from jobs.runtime.patience import PATIENCE_S, patiently
from serve_app.errors import Conflict, NotFound, StoreUnavailable
from serve_app.settings import Settings
from serve_app.types import IndexInfo, Scope


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Refusing:
    """A call to a store that refuses until an instant; each takes a while."""

    def __init__(self, clock: Clock, refuses_s: float, takes_s: float = 0.0) -> None:
        self._clock, self._until_s, self._takes_s = clock, clock.now_s + refuses_s, takes_s
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        await self._clock.sleep(self._takes_s)
        if self._clock() < self._until_s:
            raise StoreUnavailable(f"refused at {self._clock():g}")
        return "here"


@pytest.mark.parametrize(("takes_s", "most_calls"), [(0.0, 61), (10.0, 7)], ids=["at once", "slowly"])
async def test_a_store_that_refuses_for_a_minute_is_waited_for(takes_s: float, most_calls: int) -> None:
    clock = Clock()
    refusing = Refusing(clock, 60, takes_s)
    assert await patiently(refusing, clock, clock.sleep) == "here"
    assert 1 < refusing.calls <= most_calls
    assert clock() < 1_000 + 60 + 2 * takes_s + 2


async def test_a_store_that_goes_on_refusing_is_told() -> None:
    clock = Clock()
    with pytest.raises(StoreUnavailable, match="refused at"):
        await patiently(Refusing(clock, float("inf")), clock, clock.sleep)
    assert PATIENCE_S < clock() - 1_000 < PATIENCE_S + 2


async def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    clock = Clock()

    async def call() -> str:
        raise Conflict("another model")

    with pytest.raises(Conflict):
        await patiently(call, clock, clock.sleep)
    assert clock() == 1_000


async def test_a_store_that_is_away_when_a_run_begins_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting:
        calls = 0

        async def check(self) -> None:
            self.calls += 1
            if self.calls < 3:
                raise StoreUnavailable("starts")

        async def active_index(self, scope: Scope) -> IndexInfo:
            raise NotFound("a new collection")

        async def close(self) -> None:
            self.calls += 100

    store = Starting()
    monkeypatch.setattr(index_run, "connect_store", lambda settings: store)
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    assert await index_run.active_index(Settings(), Scope("local", "new")) == (None, 0)
    assert store.calls == 103
