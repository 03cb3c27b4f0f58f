from __future__ import annotations

import pytest

import jobs.patience
from jobs.patience import patiently
from serve_app.errors import StoreUnavailable


async def test_a_store_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.patience, "PAUSE_S", 0.001)
    answers = iter([StoreUnavailable("1"), StoreUnavailable("2"), "here"])

    async def call() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await patiently(call) == "here"


async def test_a_store_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.patience, "PAUSE_S", 0.001)
    monkeypatch.setattr(jobs.patience, "PATIENCE_S", 0.01)

    async def call() -> str:
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        await patiently(call)
