"""Concurrent requests are combined into one call, and no result is older than its request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.flow.rounds import Rounds


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=30))
def test_every_answer_is_of_a_call_that_began_after_the_question(questions: list[tuple[str, int]]) -> None:
    """Calls take a few turns of the loop; each question is asked some turns after the one before."""
    calls: list[Sequence[str]] = []

    async def ask(keys: Sequence[str]) -> dict[str, int]:
        calls.append(keys)
        number = len(calls)
        for _ in range(3):
            await asyncio.sleep(0)
        return dict.fromkeys(keys, number)

    async def question(rounds: Rounds[str, int], key: str) -> None:
        begun = len(calls)
        answer = await rounds.get(key)
        assert answer is not None and begun < answer <= begun + 2
        assert key in calls[answer - 1]

    async def all_of_them() -> None:
        rounds = Rounds(ask)
        async with asyncio.TaskGroup() as group:
            for key, turns in questions:
                for _ in range(turns):
                    await asyncio.sleep(0)
                group.create_task(question(rounds, key))

    asyncio.run(all_of_them())
    assert all(len(set(keys)) == len(keys) > 0 for keys in calls)


async def test_questions_at_once_are_one_call_and_one_that_is_given_up_harms_no_other() -> None:
    gate, calls = asyncio.Event(), 0

    async def ask(keys: Sequence[str]) -> dict[str, str]:
        nonlocal calls
        calls += 1
        await gate.wait()
        return {"a": "A"}

    rounds = Rounds(ask)
    impatient = asyncio.create_task(rounds.get("a"))
    others = [asyncio.create_task(rounds.get(key)) for key in "aab"]
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()
    assert await asyncio.gather(*others) == ["A", "A", None]
    assert impatient.cancelled() or impatient.cancelling()
    assert calls == 1


async def test_a_failure_is_of_its_round_only() -> None:
    faults = [ValueError("no")]

    async def ask(keys: Sequence[str]) -> dict[str, int]:
        if faults:
            raise faults.pop()
        return {"a": 1}

    rounds = Rounds(ask)
    with pytest.raises(ValueError, match="no"):
        await rounds.get("a")
    assert await rounds.get("a") == 1
