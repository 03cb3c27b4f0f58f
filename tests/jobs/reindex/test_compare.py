"""A new index that ranks judged queries worse than the old one does not become active."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobs.evaluate.beir import Dataset
from jobs.evaluate.scores import Rankings
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.reindex.__main__ import reindexed
from jobs.reindex.build import ReindexOptions, Session
from jobs.reindex.compare import LEAST_QUERIES, evaluation, judged_within, require_not_worse
from serve_app.deployments.store import connect_store
from serve_app.errors import Conflict, InvalidInput, VerificationFailed
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.types import FIRST_INDEX, Scope
from tests.jobs.reindex.traffic import gateway

# The question has no word of the answer: a model that knows nothing finds none of them.
PAIRS = [
    ("The cat sleeps on the sofa.", "feline resting upon furniture"),
    ("Our car needs new tyres.", "automobile wheels worn out"),
    ("He cooked pasta with tomatoes.", "Italian meal preparation"),
    ("The doctor prescribed antibiotics.", "physician medication for infection"),
    ("Snow fell all night in the mountains.", "winter weather at high altitude"),
    ("She plays the violin in an orchestra.", "classical musician performing symphonies"),
    ("The bank raised its mortgage rates.", "home loan interest increase"),
    ("A rocket carried the satellite into orbit.", "spacecraft launch"),
    ("The farmer harvests wheat in August.", "agriculture grain crop season"),
    ("The judge sentenced him to prison.", "criminal court verdict"),
]


def judged(queries: int) -> Dataset:
    return Dataset("j", (), {f"q{i}": "" for i in range(queries)}, {f"q{i}": {f"d{i}": 1} for i in range(queries)})


@st.composite
def rankings(draw: st.DrawFn, queries: int) -> Rankings:
    """The relevant document at some rank, or not found."""
    ranks = [draw(st.integers(0, 10)) for _ in range(queries)]
    return {f"q{i}": ["other"] * rank + [f"d{i}"] * (rank < 10) for i, rank in enumerate(ranks)}


@hypothesis_settings(max_examples=25)  # each draws sixty thousand samples
@given(st.data(), st.integers(1, 12))
def test_only_one_of_two_can_be_worse_and_that_has_the_lower_mean(data: st.DataObject, queries: int) -> None:
    one, other = data.draw(rankings(queries)), data.draw(rankings(queries))
    there, back = evaluation(judged(queries), one, other), evaluation(judged(queries), other, one)
    assert not (there.is_worse and back.is_worse)
    assert not evaluation(judged(queries), one, one).is_worse
    if there.is_worse:
        assert queries >= LEAST_QUERIES
        assert there.comparison.candidate < there.comparison.baseline
        with pytest.raises(VerificationFailed):
            require_not_worse(there, "i")
    else:
        require_not_worse(there, "i")


@pytest.mark.parametrize(("queries", "is_worse"), [(LEAST_QUERIES - 1, False), (LEAST_QUERIES, True)])
def test_so_many_queries_are_needed_to_refuse_an_index_that_finds_nothing(queries: int, is_worse: bool) -> None:
    best: Rankings = {f"q{i}": [f"d{i}"] for i in range(queries)}
    assert evaluation(judged(queries), best, {query: [] for query in best}).is_worse is is_worse


def test_only_queries_with_something_to_find_are_asked() -> None:
    stored = {f"d{i}" for i in range(LEAST_QUERIES)}
    kept = judged_within(judged(9), stored, "c")
    assert list(kept.queries) == list(kept.judgements) == [f"q{i}" for i in range(LEAST_QUERIES)]
    with pytest.raises(InvalidInput, match="of 9 judged queries of j 5 have a relevant document in collection c"):
        judged_within(judged(9), stored - {"d0"}, "c")
    not_relevant = Dataset("j", (), {"q": ""}, {"q": {"d0": 0, "d99": 1}})
    with pytest.raises(InvalidInput, match="of 1 judged queries of j 0 have"):
        judged_within(not_relevant, stored, "c")


def judged_folder(folder: Path, prefix: str = "d") -> Path:
    (folder / "qrels").mkdir(parents=True)
    queries = [{"_id": f"q{i}", "text": query} for i, (_, query) in enumerate(PAIRS)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{i}\t{prefix}{i}\t1\n" for i in range(len(PAIRS))))
    return folder


async def put(settings: Settings, collection: str) -> None:
    documents = [{"id": f"d{i}", "text": text} for i, (text, _) in enumerate(PAIRS)]
    async with gateway(settings) as client:
        answer = await client.post(f"/v1/collections/{collection}/documents", json={"documents": documents})
        assert answer.status_code == 200, answer.text


def test_what_ranks_worse_is_refused_and_what_ranks_better_answers(two_models: Settings, tmp_path: Path) -> None:
    scope, folder = Scope("local", "reindex-evaluated"), judged_folder(tmp_path / "judged")
    asyncio.run(put(two_models, scope.collection))
    default, tiny = (each.model for each in two_models.embedding.of_each)
    session = Session(connect_store(two_models))
    with DeadLetterFile(tmp_path / "letters") as letters:
        run = partial(reindexed, session, scope, two_models, letters=letters, advance=lambda *_: None)
        try:
            with pytest.raises(InvalidInput, match="10 judged queries of others 0 have"):
                run(ReindexOptions(model=tiny), evaluates=judged_folder(tmp_path / "others", prefix="x"), dry_run=True)
            would = run(ReindexOptions(model=tiny), evaluates=folder, drops=True, dry_run=True)
            assert (would["evaluation"], would["dropped"]) == (None, [FIRST_INDEX])
            assert len(session.ask(partial(session.store.indexes, scope))) == 1, "nothing is built"

            with pytest.raises(VerificationFailed, match=r"ranks 10 judged queries worse .* ndcg@10 0\.\d+ and not \d"):
                run(ReindexOptions(model=tiny), evaluates=folder, drops=True)
            indexes = session.ask(partial(session.store.indexes, scope))
            assert [each.scope.index for each in indexes if each.is_active] == [FIRST_INDEX]
            assert len(indexes) == 2, "neither is dropped"

            all_the_same = run(ReindexOptions(model=tiny))
            assert (all_the_same["unchanged"], all_the_same["evaluation"]) == (len(PAIRS), None)
            better = run(ReindexOptions(model=default, max_tokens=64), evaluates=folder)["evaluation"]
            assert (better["queries"], better["metric"]) == (len(PAIRS), "ndcg@10")
            assert 0 < better["interval"][0] <= better["difference"] <= better["interval"][1]
            assert better["new"] > better["old"] and better["p"] < 0.05

            alone = two_models.model_copy(update={"embedding": EmbeddingSettings(model=tiny)})
            with pytest.raises(Conflict, match="which is not loaded here: add it to AIDOCS_EMBEDDING__FURTHER_MODELS"):
                reindexed(
                    session,
                    scope,
                    alone,
                    ReindexOptions(model=tiny),
                    letters=letters,
                    advance=lambda *_: None,
                    evaluates=folder,
                )
        finally:
            session.close()
