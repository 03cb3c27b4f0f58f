"""Searches on one shard, where the contract of all stores leaves the result open."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.query_types import Feedback, Fusion, FusionMethod
from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from tests.contracts.corpus import SCOPE, SPACE, ask, document, query

WORDS = [f"word{i}" for i in range(300)]
PAGE, DEPTH = 5, 20


@pytest.mark.parametrize("feedback", [None, Feedback(3, 0.25)])
@pytest.mark.parametrize("group_by", [None, "document_id"])
async def test_pages_of_equal_reciprocal_ranks_hold_each_hit_once(
    folder: Path, group_by: str | None, feedback: Feedback | None
) -> None:
    chance = random.Random(1)
    store = EdgeStore.open(folder, StoreSettings())
    try:
        await store.write(SCOPE, SPACE, [document(f"d{i}", " ".join(chance.choices(WORDS, k=12))) for i in range(400)])
        # The two retrievers are asked for different words, so that most ranks are held by two passages.
        other = query("word200 word201 word202", "sparse").sparse
        asked = replace(query("word1 word2"), sparse=other, fusion=Fusion(FusionMethod.RRF, 60), group_by=group_by)
        asked = replace(asked, limit=DEPTH, feedback=feedback)
        whole = (await ask(store, asked)).hits
        assert len({hit.score for hit in whole}) < len(whole)  # else it would show nothing
        for offset in range(0, DEPTH, PAGE):
            answer = await ask(store, replace(asked, offset=offset, limit=PAGE))
            assert answer.hits == whole[offset : offset + PAGE]
    finally:
        await store.close()
