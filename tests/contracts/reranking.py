"""The contract of every VectorStore for queries with feedback or smoothing (see vector_queries.py)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from serve_app.ports import VectorStore
from serve_app.query_types import Feedback, Smoothing
from serve_app.store.feedback import smoothed
from tests.contracts.corpus import ask, embed, found, query, where

MODES = ("dense", "sparse", "hybrid")


class RerankingContract:
    """`library` holds vector_queries.LIBRARY."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("group_by", [None, "document_id"])
    async def test_pages_of_smoothed_hits_are_of_one_ranking(
        self, library: VectorStore, mode: str, group_by: str | None
    ) -> None:
        fields: dict[str, Any] = {"smoothing": Smoothing(4, 2, 0.5), "feedback": Feedback(2, 0.5), "group_by": group_by}
        asked = query("cats purr songs", mode, limit=10, **fields)
        whole = (await ask(library, asked)).hits
        pages = [(await ask(library, dataclasses.replace(asked, limit=1, offset=at))).hits for at in range(10)]
        assert [hit.passage_id for page in pages for hit in page] == [hit.passage_id for hit in whole]
        scores = [hit.score for hit in whole]
        assert scores == sorted(scores, reverse=True)
        assert len(whole) > 1  # pages

    async def test_feedback_moves_the_query_towards_what_was_found_first(self, library: VectorStore) -> None:
        text, mode = "cats purr", "dense"
        first = (await ask(library, query(text, mode))).hits[:2]
        moved = 0.5 * embed(text) + 0.5 * np.mean([embed(hit.text) for hit in first], axis=0)
        by_hand = dataclasses.replace(query(text, mode), dense=(moved / np.linalg.norm(moved)).astype(np.float32))
        expected = {hit.passage_id: hit.score for hit in (await ask(library, by_hand)).hits}
        hits = (await ask(library, query(text, mode, feedback=Feedback(2, 0.5)))).hits
        assert {hit.passage_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-4)
        plain = {hit.passage_id: hit.score for hit in (await ask(library, query(text, mode))).hits}
        assert expected != pytest.approx(plain, abs=1e-2)

    async def test_smoothing_is_of_the_first_candidates_scores(self, library: VectorStore) -> None:
        asked = query("cats chase birds", "dense", limit=10)
        before = (await ask(library, asked)).hits
        how = Smoothing(candidates=4, neighbours=2, share=0.5)
        after = (await ask(library, dataclasses.replace(asked, smoothing=how))).hits
        expected = smoothed([hit.score for hit in before], [embed(hit.text) for hit in before[:4]], how)
        assert [hit.passage_id for hit in after] == [before[place].passage_id for place, _ in expected]
        assert [hit.score for hit in after] == pytest.approx([score for _, score in expected], abs=1e-4)
        assert after[4:] == before[4:] and after[:4] != before[:4]

    async def test_words_alone_know_neither(self, library: VectorStore) -> None:
        asked = query("cats purr songs", "sparse")
        both = dataclasses.replace(asked, smoothing=Smoothing(9, 3, 0.9), feedback=Feedback(3, 0.9))
        assert await ask(library, both) == await ask(library, asked)

    @pytest.mark.parametrize("mode", ["dense", "hybrid"])
    async def test_feedback_and_smoothing_compose(self, library: VectorStore, mode: str) -> None:
        """With filters, facets and diversity, which orders anew what smoothing would have ordered."""
        how: dict[str, Any] = {"smoothing": Smoothing(9, 3, 0.5), "feedback": Feedback(3, 0.3)}
        english = query("cats dogs birds", mode, filter=where("metadata.lang", "en"), facets=("metadata.year",), **how)
        answer = await ask(library, english)
        assert {hit.document_id for hit in answer.hits} == {"cats", "dogs"}
        assert (answer.total, answer.facets["metadata.year"]) == (4, {"2020": 2, "2021": 2})
        none = dataclasses.replace(english, filter=where("metadata.lang", "fr"))
        assert await found(library, none) == []
        various = dataclasses.replace(english, diversity=0.5)
        assert await ask(library, various) == await ask(library, dataclasses.replace(various, smoothing=None))
