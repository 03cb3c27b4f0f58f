"""The ranking benchmark scores like the store, and its cross-validation does not overstate gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.query_types import Feedback, Smoothing
from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from tests.bench.ranking.__main__ import as_they_are, cross_validated, measured, table
from tests.bench.ranking.cross_validation import held_out, randomisation_p
from tests.bench.ranking.documents import decaying, mean_of_first, mnz, reciprocal_ranks, sum_of_first
from tests.bench.ranking.grid import DOCUMENT_WAYS, QUALITY, QUALITY_DOCUMENT_WAYS, WAYS
from tests.bench.ranking.index import Index, Judged, Postings, asked, best_passage
from tests.bench.ranking.packages import package_summaries
from tests.bench.ranking.served import Served
from tests.bench.ranking.served import table as served_table
from tests.bench.ranking.ways import dbsf
from tests.contracts.corpus import SCOPE, SPACE, ask, document, query

WORDS = [f"word{number}" for number in range(40)]


def texts(count: int) -> list[str]:
    chance = np.random.default_rng(7)
    return [" ".join(chance.choice(WORDS, size=12)) for _ in range(count)]


def judged_set(count: int) -> Judged:
    passages = [
        passage for number, text in enumerate(texts(count)) for passage in document(f"d{number}", text).passages
    ]
    vectors = [passage.sparse for passage in passages]
    dense = np.stack([passage.dense for passage in passages])
    index = Index(dense, vectors, Postings.of(vectors), np.arange(count), tuple(f"d{n}" for n in range(count)))
    questions = []
    for number, text in enumerate(texts(count)[:10]):
        wanted = query(" ".join(text.split()[:4]))
        assert wanted.dense is not None and wanted.sparse is not None
        questions.append(asked(index, f"q{number}", wanted.dense, wanted.sparse, {f"d{number}": 1}))
    return Judged("words", index, questions)


@pytest.mark.parametrize("way", ["default", "quality"])
async def test_it_ranks_as_the_store_does(tmp_path: Path, way: str) -> None:
    judged = judged_set(30)
    how = {"feedback": Feedback(3, 0.25), "smoothing": Smoothing(50, 5, 0.3)} if way == "quality" else {}
    rank = QUALITY.rank if way == "quality" else dbsf
    store = EdgeStore.open(tmp_path, StoreSettings())
    try:
        await store.write(SCOPE, SPACE, [document(f"d{number}", text) for number, text in enumerate(texts(30))])
        for question, text in zip(judged.questions, texts(30), strict=False):
            hits = (await ask(store, query(" ".join(text.split()[:4]), limit=30, **how))).hits
            scores = rank(judged.index, question)
            found = dict(zip(judged.index.ids, scores, strict=True))
            assert [hit.score for hit in hits] == pytest.approx([found[hit.document_id] for hit in hits], abs=1e-3)
    finally:
        await store.close()


def test_every_way_ranks_and_every_family_is_held_out() -> None:
    of = measured(judged_set(30), WAYS)
    assert all(0 <= one.ndcg.min() <= one.ndcg.max() <= 1 for one in of)
    families, ways = cross_validated(of), as_they_are(of)
    assert families.keys() == {way.family for way in WAYS}
    assert len(ways) == len(WAYS)
    assert len(table(families, ways, ways).splitlines()) == 2 + len(families) + 1 + 2 + len(WAYS)


def test_documents_by_their_passages() -> None:
    """Of the first document 0.9 and 0.3, of the second 0.8, 0.6 and one that was not found, of the third nothing."""
    index = replace(judged_set(5).index, document=np.array([0, 1, 1, 0, 1, 2]), ids=("a", "b", "c"))
    scores = np.array([0.3, 0.8, np.nan, 0.9, 0.6, np.nan])
    for aggregate, expected in (
        (best_passage, (0.9, 0.8)),
        (sum_of_first(2), (1.2, 1.4)),
        (sum_of_first(1), (0.9, 0.8)),
        (mean_of_first(3), (0.6, 0.7)),
        (decaying(0.5), (1.05, 1.1)),
        (mnz, (2.4, 2.8)),
        (reciprocal_ranks(1), (1 / 2 + 1 / 5, 1 / 3 + 1 / 4)),
    ):
        found = aggregate(scores, index)
        assert found[:2] == pytest.approx(expected)
        assert found[2] == -np.inf
    assert index.by_document(sum_of_first(2)(scores, index), 3) == ["b", "a"]


def test_every_way_to_rank_documents_ranks_and_one_passage_a_document_leaves_no_choice() -> None:
    judged = judged_set(30)
    first, *others = measured(judged, DOCUMENT_WAYS + QUALITY_DOCUMENT_WAYS)
    assert all(0 <= one.ndcg.min() <= one.ndcg.max() <= 1 for one in others)
    for one in others:
        if one.way.rank is dbsf and one.way.family in {"sum of the first", "mean of the first", "decaying", "MNZ"}:
            assert one.ndcg == pytest.approx(first.ndcg)


@pytest.mark.slow
def test_a_question_of_installed_packages_is_not_in_the_document_that_answers_it() -> None:
    data = package_summaries(30)
    documents = {document.id: document for document in data.documents}
    assert len(data.queries) == 30
    for id, text in data.queries.items():
        assert data.judgements[id] == {id: 1}
        assert documents[id].title == ""
        assert " ".join(text.split()) not in " ".join(documents[id].text.split())


def test_choosing_among_noise_gains_nothing() -> None:
    """The best of fifty ways without any merit looks better than the first where it was chosen, and is not."""
    noise = np.random.default_rng(1).normal(size=(50, 200))
    held, chosen = held_out(noise)
    assert noise.mean(axis=1).max() > 0.1
    assert abs(held.mean()) < 0.08
    assert sum(chosen.values()) == 100


def test_a_way_that_is_better_everywhere_is_always_chosen() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 50))
    scores[1] = scores.max(axis=0) + 1
    held, chosen = held_out(scores)
    assert held == pytest.approx(scores[1])
    assert chosen == {1: 100}


def test_randomisation_tells_a_difference_from_none() -> None:
    chance = np.random.default_rng(3)
    one = chance.normal(size=100)
    assert randomisation_p(one + 0.5, one) < 0.001
    assert randomisation_p(one, one) == 1.0
    few = [randomisation_p(chance.normal(size=30), chance.normal(size=30), shuffles=500) for _ in range(100)]
    assert 0.3 < np.mean(few) < 0.7  # as p should be where there is nothing


def test_a_served_profile_is_reported_by_the_median_of_its_rounds() -> None:
    lines = served_table({"default": Served([3.0, 1.0, 2.0], {"ndcg@10": 0.5})}).splitlines()
    assert lines[0] == "| profile | ndcg@10 | p50 ms | rounds |"
    assert lines[2] == "| default | 0.5000 | 2.00 | 3.00 1.00 2.00 |"
