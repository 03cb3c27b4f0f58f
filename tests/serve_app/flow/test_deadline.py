"""Items whose deadline has passed never reach the function that runs the batches."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import DeadlineExceeded
from serve_app.flow.batcher import BatchLimits, MicroBatcher
from serve_app.flow.deadline import current_deadline_s, deadline

LIMITS = BatchLimits(max_items=8, max_weight=100)


async def test_expired_work_is_dropped_before_it_runs() -> None:
    """Also when nobody cancelled it: the batch ends in the turn of the loop in which the deadline passes."""
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    called, gate = asyncio.Event(), asyncio.Event()

    async def run(items: list[str]) -> list[str]:
        seen.extend(items)
        called.set()
        await gate.wait()
        return items

    async def submit(item: str, ends_at_s: float | None) -> str:
        with deadline(ends_at_s):
            return await batcher.submit(item)

    batcher = MicroBatcher(run, LIMITS)
    first = asyncio.create_task(submit("first", None))
    await called.wait()
    late = asyncio.create_task(submit("late", loop.time()))
    patient = asyncio.create_task(submit("patient", loop.time() + 60))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.wait_for(first, timeout=5) == "first"
    assert await asyncio.wait_for(patient, timeout=5) == "patient"
    with pytest.raises(DeadlineExceeded):
        await late
    assert seen == ["first", "patient"]


async def test_a_batch_has_no_deadline_of_one_of_its_requests() -> None:
    seen: list[float | None] = []

    async def run(items: list[int]) -> list[int]:
        seen.append(current_deadline_s())
        return items

    with deadline(asyncio.get_running_loop().time() + 60):
        await MicroBatcher(run, LIMITS).submit(1)
    assert seen == [None]


async def test_tasks_inherit_it_and_it_ends_with_the_block() -> None:
    async def read() -> float | None:
        return current_deadline_s()

    with deadline(7.0):
        assert await asyncio.create_task(read()) == 7.0
        with deadline(None):
            assert current_deadline_s() is None
    assert current_deadline_s() is None
