"""Concurrent callers wait for one task, even if some of them leave."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import NotFound, Unavailable
from serve_app.flow.single_flight import SingleFlight


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Ends when it is let go; counts how often it was begun and cancelled."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.cancelled = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await turns()  # what it holds has to be given back
            raise
        if self._error:
            raise self._error
        return "done"


async def test_all_get_the_one_result_and_the_next_begins_anew() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work()
    callers = [asyncio.ensure_future(flights.run("k", work)) for _ in range(10)]
    await turns()
    assert "k" in flights
    work.go.set()
    assert await asyncio.gather(*callers) == ["done"] * 10
    assert work.begun == 1 and "k" not in flights
    assert await flights.run("k", work) == "done" and work.begun == 2


async def test_keys_do_not_wait_for_each_other() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    slow, quick = Work(), Work()
    quick.go.set()
    waiting = asyncio.ensure_future(flights.run("slow", slow))
    assert await flights.run("quick", quick) == "done"
    slow.go.set()
    assert await waiting == "done"


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_who_leaves_does_not_disturb_the_others(leaver: int) -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work()
    callers = [asyncio.ensure_future(flights.run("k", work)) for _ in range(3)]
    await turns()
    callers[leaver].cancel()
    await turns()
    assert callers[leaver].cancelled() and work.cancelled == 0
    work.go.set()
    assert [await caller for number, caller in enumerate(callers) if number != leaver] == ["done"] * 2


async def test_the_last_who_leaves_ends_the_work_and_who_comes_then_begins_anew() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work()
    callers = [asyncio.ensure_future(flights.run("k", work)) for _ in range(3)]
    await turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    fresh = asyncio.ensure_future(flights.run("k", work))
    await turns()
    assert work.cancelled == 1 and work.begun == 2
    work.go.set()
    assert await fresh == "done"


async def test_an_error_reaches_all_and_is_not_kept() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work(NotFound("gone"))
    callers = [asyncio.ensure_future(flights.run("k", work)) for _ in range(3)]
    await turns()
    work.go.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["gone"] * 3 and "k" not in flights


async def test_work_that_is_cancelled_from_inside_is_an_error_and_no_cancelling_of_its_callers() -> None:
    async def cancels_itself() -> str:
        raise asyncio.CancelledError

    flights: SingleFlight[str, str] = SingleFlight()
    with pytest.raises(Unavailable):
        await flights.run("k", cancels_itself)
