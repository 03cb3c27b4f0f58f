"""The limiter against simulated services. Time is a number, so no test sleeps."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import NotFound, Overloaded
from serve_app.flow.limiter import WINDOW_SAMPLES, Estimate, Limiter


@dataclass
class Service:
    """Requests arrive at random and `workers` serve them in order, each a batch of up to `batch` that takes
    `service_s(now, size)` on average: M/M/c for batches of one."""

    arrivals_per_s: float
    workers: int
    service_s: Callable[[float, int], float]
    batch: int = 1
    floor: int = 4
    ceiling: int = 256
    now_s: float = 0.0
    answered: int = 0
    refused: int = 0
    limits: list[tuple[float, int]] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self.rng = random.Random(7)
        self.limiter = Limiter("requests", floor=self.floor, ceiling=self.ceiling, clock=lambda: self.now_s)
        self.waiting: deque[tuple[float, AbstractContextManager[None]]] = deque()
        self.busy: list[tuple[float, int, list[tuple[float, AbstractContextManager[None]]]]] = []
        self.numbers = count()
        self.arrives_at_s = 0.0

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        self.answered = self.refused = 0
        self.limits, self.slowest_s = [], 0.0
        while self.now_s < until_s:
            if self.busy and self.busy[0][0] <= self.arrives_at_s:
                self._finish()
            else:
                self._arrive()
            while self.waiting and len(self.busy) < self.workers:
                self._begin()
            self.limits.append((self.now_s, self.limiter.limit))

    def _arrive(self) -> None:
        self.now_s = self.arrives_at_s
        self.arrives_at_s += self.rng.expovariate(self.arrivals_per_s)
        slot = self.limiter.admit()
        try:
            slot.__enter__()
            self.waiting.append((self.now_s, slot))
        except Overloaded:
            self.refused += 1

    def _begin(self) -> None:
        taken = [self.waiting.popleft() for _ in range(min(self.batch, len(self.waiting)))]
        took_s = self.rng.gammavariate(4, self.service_s(self.now_s, len(taken)) / 4)
        heapq.heappush(self.busy, (self.now_s + took_s, next(self.numbers), taken))

    def _finish(self) -> None:
        self.now_s, _, batch = heapq.heappop(self.busy)
        for arrived_at_s, slot in batch:
            slot.__exit__(None, None, None)
            self.answered += 1
            self.slowest_s = max(self.slowest_s, self.now_s - arrived_at_s)


def test_converges_near_where_latency_begins_to_grow() -> None:
    """16 workers of 50 ms, twice the load they can do: 320 answers a second, from 16 at once on ever later."""
    service = Service(640, workers=16, service_s=lambda now, size: 0.05)
    service.run(40)
    service.run(40)
    limits = [limit for _, limit in service.limits]
    assert 16 <= min(limits) <= max(limits) <= 40
    assert service.answered / 40 > 0.97 * 320
    assert service.refused / 40 > 0.9 * 320
    assert service.slowest_s < 0.6, "a queue grew"


def test_light_load_is_never_refused() -> None:
    service = Service(80, workers=16, service_s=lambda now, size: 0.05, floor=16)
    service.run(60)
    assert service.refused == 0
    assert service.limiter.limit >= 16


def test_shrinks_in_a_slow_phase_and_recovers() -> None:
    service = Service(640, workers=16, service_s=lambda now, size: 0.2 if 30 < now < 60 else 0.05)
    service.run(30)
    before = service.limiter.limit
    service.run(30)
    assert service.limiter.limit < before / 2
    service.run(10)
    service.run(30)
    assert service.answered / 30 > 0.97 * 320
    assert service.limiter.limit <= 64, "the slow phase counts as normal"


def test_micro_batches_stay_full() -> None:
    """One engine, 5 ms and 0.5 ms for each of up to 64: the floor keeps what batching gains."""
    service = Service(4_000, 1, lambda now, size: 0.005 + 0.0005 * size, batch=64, floor=64, ceiling=192)
    service.run(5)
    service.run(10)
    alone_per_s, full_per_s = 1 / 0.0055, 64 / 0.037
    assert service.answered / 10 > 0.85 * full_per_s > 7 * alone_per_s
    assert service.slowest_s < 0.5


def test_a_load_that_does_not_end_does_not_drive_the_limit_up() -> None:
    """What Gradient2's own baseline does: see the module. 20,000 windows are over an hour."""
    rng = random.Random(3)
    estimate = Estimate.start(4, 500)
    limits = []
    for _ in range(20_000):
        latency_s = 0.05 * max(1.0, estimate.limit / 16) * rng.lognormvariate(0, 0.15)
        estimate = estimate.update(latency_s, estimate.limit)
        limits.append(estimate.limit)
    assert 16 <= min(limits[1_000:]) <= max(limits[1_000:]) <= 48


def test_unused_limit_does_not_grow_and_refusals_behind_shrink_it() -> None:
    idle = Estimate(4, 100, 50.0, baseline_s=0.01)
    assert idle.update(0.01, in_flight=24).limit == 50
    assert idle.update(0.01, in_flight=25).value > 50
    assert idle.update(0.01, in_flight=50, dropped=True).limit == 45


@given(
    windows=st.lists(st.tuples(st.floats(1e-6, 1e4), st.integers(1, 1_000), st.booleans()), max_size=50),
    floor=st.integers(1, 100),
    room=st.integers(0, 100),
)
def test_stays_within_floor_and_ceiling(windows: list[tuple[float, int, bool]], floor: int, room: int) -> None:
    estimate = Estimate.start(floor, floor + room)
    for latency_s, in_flight, dropped in windows:
        estimate = estimate.update(latency_s, in_flight, dropped)
        assert floor <= estimate.limit <= floor + room
        assert estimate.baseline_s > 0


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def do(limiter: Limiter, clock: Clock, took_s: float, error: BaseException | None = None) -> None:
    with limiter.admit():
        clock.now_s += took_s
        if error is not None:
            raise error


def test_refuses_beyond_the_limit_and_frees_what_failed() -> None:
    limiter = Limiter("uploads", floor=2, ceiling=2)
    with limiter.admit(), limiter.admit():
        with pytest.raises(Overloaded, match="2 of 2 uploads are under way"):
            limiter.admit().__enter__()
        assert limiter.in_flight == 2
    for error in (NotFound("x"), asyncio.CancelledError(), Overloaded("behind")):
        with pytest.raises(type(error)):
            do(limiter, Clock(), 0, error)
    assert limiter.in_flight == 0


def test_what_is_heavier_than_the_limit_goes_alone() -> None:
    limiter = Limiter("embedding requests", floor=4, ceiling=4)
    with limiter.admit(32), pytest.raises(Overloaded):
        limiter.admit().__enter__()
    with limiter.admit(2):
        with pytest.raises(Overloaded):
            limiter.admit(3).__enter__()
        with limiter.admit(2):
            assert limiter.in_flight == 4


def test_refusal_says_when_those_before_are_answered() -> None:
    clock = Clock()
    limiter = Limiter("uploads", floor=1, ceiling=1, clock=clock)
    for _ in range(WINDOW_SAMPLES):
        do(limiter, clock, 20.0)
    with limiter.admit(), pytest.raises(Overloaded) as refused:
        limiter.admit().__enter__()
    assert refused.value.retry_after_s == pytest.approx(20.0)


def fill(limiter: Limiter, clock: Clock, took_s: float, error: BaseException | None = None) -> None:
    """As many at once as the limit allows, all with this end."""
    slots = [limiter.admit() for _ in range(limiter.limit)]
    for slot in slots:
        slot.__enter__()
    clock.now_s += took_s
    for slot in slots:
        slot.__exit__(type(error) if error else None, error, None)


@pytest.mark.parametrize(("took_s", "shrinks"), [(0.001, False), (1.0, True)])
def test_a_deadline_counts_only_if_the_work_was_slow(took_s: float, shrinks: bool) -> None:
    """A client that gives a millisecond may change the limit for nobody; work that hangs for everybody must."""
    clock = Clock()
    limiter = Limiter("searches", floor=4, ceiling=100, clock=clock)
    for _ in range(200):
        fill(limiter, clock, 0.05)
    grown = limiter.limit
    assert grown > 8
    for _ in range(100):
        fill(limiter, clock, took_s, asyncio.CancelledError())
    assert limiter.limit == (4 if shrinks else grown)
