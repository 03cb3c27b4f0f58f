"""The batcher with clients that disconnect, functions that fail, and more work than it accepts."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import InvalidInput, Overloaded, PlatformError
from serve_app.flow.batcher import BatchLimits, MicroBatcher

LIMITS = BatchLimits(max_items=8, max_weight=100)


class Doubler:
    """Answers 2·x after the gate opens; keeps what it was called with."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.called.set()
        await self.gate.wait()
        return [2 * item for item in items]


async def test_what_waits_goes_together() -> None:
    doubler = Doubler()
    batcher = MicroBatcher(doubler, LIMITS)
    first = asyncio.create_task(batcher.submit(0))
    await doubler.called.wait()
    rest = [asyncio.create_task(batcher.submit(i)) for i in range(1, 11)]
    await asyncio.sleep(0)
    doubler.gate.set()
    assert await asyncio.gather(first, *rest) == [2 * i for i in range(11)]
    assert doubler.batches == [[0], list(range(1, 9)), [9, 10]]


async def test_a_thousand_clients_that_hang_up_do_not_stall_it() -> None:
    """DESIGN §10: `set_result` on a cancelled future raises, and a batcher that does not look dies silently."""
    doubler = Doubler()
    batcher = MicroBatcher(doubler, LIMITS)
    clients = [asyncio.create_task(batcher.submit(i)) for i in range(1_000)]
    await doubler.called.wait()
    for client in clients:  # the first batch is in the engine, the others wait
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    doubler.gate.set()
    assert await asyncio.wait_for(batcher.submit(7), timeout=5) == 14
    assert sum(map(len, doubler.batches)) <= LIMITS.max_items + 1, "abandoned work reached the engine"


async def test_clients_that_leave_at_random_do_not_disturb_the_others() -> None:
    rng = random.Random(7)

    async def slow_double(items: list[int]) -> list[int]:
        await asyncio.sleep(rng.random() / 1_000)
        return [2 * item for item in items]

    batcher = MicroBatcher(slow_double, BatchLimits(max_items=8, max_weight=100, concurrency=2))
    stays = {i for i in range(1_000) if rng.random() < 0.5}
    clients = {i: asyncio.create_task(batcher.submit(i)) for i in range(1_000)}
    for i, client in clients.items():
        if i not in stays:
            await asyncio.sleep(0)
            client.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*(clients[i] for i in stays)), timeout=30)
    assert answers == [2 * i for i in stays]


async def test_an_error_of_one_item_is_its_own() -> None:
    async def refuse_odd(items: list[int]) -> list[int | PlatformError]:
        return [InvalidInput("odd") if item % 2 else item for item in items]

    batcher = MicroBatcher(refuse_odd, LIMITS)
    answers = await asyncio.gather(*(batcher.submit(i) for i in range(4)), return_exceptions=True)
    assert [type(a) for a in answers] == [int, InvalidInput, int, InvalidInput]


@pytest.mark.parametrize("failure", [RuntimeError("engine gone"), InvalidInput("no")])
async def test_a_batch_that_fails_answers_everyone_and_the_next_works(failure: Exception) -> None:
    calls = 0

    async def fail_once(items: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise failure
        return items

    batcher = MicroBatcher(fail_once, LIMITS)
    answers = await asyncio.gather(*(batcher.submit(i) for i in range(3)), return_exceptions=True)
    assert answers == [failure] * 3
    assert await batcher.submit(5) == 5


async def test_a_wrong_number_of_results_is_an_error_and_not_a_hang() -> None:
    async def short(items: list[int]) -> list[int]:
        return items[:-1]

    with pytest.raises(RuntimeError, match="0 results for a batch of 1"):
        await asyncio.wait_for(MicroBatcher(short, LIMITS).submit(1), timeout=5)


async def test_beyond_max_waiting_it_refuses_and_forgets_those_who_left() -> None:
    doubler = Doubler()
    batcher = MicroBatcher(doubler, BatchLimits(max_items=1, max_weight=1, max_waiting=2))
    running = asyncio.create_task(batcher.submit(0))
    await doubler.called.wait()
    waiting = [asyncio.create_task(batcher.submit(i)) for i in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(3)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    doubler.gate.set()
    assert list(await asyncio.gather(running, waiting[1], batcher.submit(3))) == [0, 4, 6]


async def test_what_waits_is_counted_as_batches_are_and_one_too_large_is_taken_alone() -> None:
    doubler = Doubler()
    limits = BatchLimits(max_items=4, max_weight=100, max_waiting=10)
    batcher = MicroBatcher(doubler, limits, count=lambda item: item)
    running = asyncio.create_task(batcher.submit(4))
    await doubler.called.wait()
    waiting = [asyncio.create_task(batcher.submit(i)) for i in (4, 4, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="10 are waiting"):
        await batcher.submit(1)
    waiting.pop(1).cancel()
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(batcher.submit(3)))  # in the place of the one that left
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(2)
    doubler.gate.set()
    assert await asyncio.gather(running, *waiting) == [8, 8, 4, 6]
    assert await batcher.submit(50) == 100, "more than may wait, but nothing else does"
    assert doubler.batches == [[4], [4], [2], [3], [50]]


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    max_items=st.integers(1, 10),
    max_weight=st.integers(1, 40),
    concurrency=st.integers(1, 3),
)
def test_batches_keep_the_order_and_the_limits(
    weights: list[int], max_items: int, max_weight: int, concurrency: int
) -> None:
    batches: list[list[tuple[int, int]]] = []

    async def record(items: list[tuple[int, int]]) -> list[tuple[int, int]]:
        batches.append(items)
        await asyncio.sleep(0)
        return items

    async def submit_all() -> list[tuple[int, int]]:
        batcher = MicroBatcher(record, BatchLimits(max_items, max_weight, concurrency), weigh=lambda item: item[1])
        return await asyncio.gather(*(batcher.submit(item) for item in enumerate(weights)))

    assert asyncio.run(submit_all()) == list(enumerate(weights))
    assert [item for batch in batches for item in batch] == list(enumerate(weights))
    for batch in batches:
        assert len(batch) <= max_items
        assert len(batch) == 1 or sum(weight for _, weight in batch) <= max_weight
