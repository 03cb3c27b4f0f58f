"""The contract of every VectorStore for queries (see vector_store.py)."""

from __future__ import annotations

import asyncio
import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest

from serve_app.errors import Conflict, InvalidInput, NotFound
from serve_app.ports import VectorStore
from serve_app.query_types import Fusion, FusionMethod, StoreQuery, StoreResult
from serve_app.store.payload import passage_payload
from serve_app.types import Scope, VectorSpace, passage_point_id
from tests.contracts.corpus import BM25, SCOPE, SPACE, ask, document, embed, found, query, where
from tests.contracts.reranking import MODES, RerankingContract

LIBRARY = [
    document("cats", "cats purr softly", "cats chase mice", metadata={"lang": "en", "year": 2020, "tags": ["a", "b"]}),
    document("dogs", "dogs bark loudly", "dogs fetch sticks", metadata={"lang": "en", "year": 2021, "tags": ["b"]}),
    document("birds", "birds sing songs", metadata={"lang": "de", "year": 2021, "free": True}),
    document("fish", "fish swim silently", metadata={"lang": "de", "score": 1.5}, subject="nemo"),
    document("empty"),
]


class VectorQueryContract(RerankingContract, ABC):
    @abstractmethod
    def store(self) -> VectorStore: ...

    @pytest.fixture
    async def library(self, store: VectorStore) -> VectorStore:
        await store.write(SCOPE, SPACE, LIBRARY)
        return store

    @pytest.mark.parametrize("mode", MODES)
    async def test_the_passage_itself_is_found_first(self, library: VectorStore, mode: str) -> None:
        for item in LIBRARY:
            for part in item.passages:
                answer = await ask(library, query(part.passage.text, mode))
                assert answer.hits[0].text == part.passage.text
                scores = [hit.score for hit in answer.hits]
                assert scores == sorted(scores, reverse=True)

    async def test_a_hit_carries_what_was_stored(self, library: VectorStore) -> None:
        [hit] = (await ask(library, query("cats chase mice", limit=1))).hits
        expected = passage_payload(LIBRARY[0].document, LIBRARY[0].passages[1])
        assert (hit.document_id, hit.title, hit.text, hit.url, hit.metadata) == (
            *("cats", "Title of cats", "cats chase mice", "https://x.org/cats"),
            expected["metadata"],
        )
        assert hit.headings == ("Heading",)
        assert hit.passage_id == passage_point_id(SCOPE, "cats", 1)

    async def test_sparse_finds_only_passages_with_a_word(self, library: VectorStore) -> None:
        assert await found(library, query("barking", "sparse")) == ["dogs"]
        assert await found(library, query("of the", "sparse")) == []
        assert await found(library, query("zebra", "sparse")) == []

    async def test_rare_words_weigh_more(self, library: VectorStore) -> None:
        assert (await found(library, query("cats fetch", "sparse")))[0] == "dogs"  # "fetch" once, "cats" twice

    async def test_dense_score_is_the_cosine(self, library: VectorStore) -> None:
        for hit in (await ask(library, query("birds swim", "dense"))).hits:
            assert hit.score == pytest.approx(float(embed("birds swim") @ embed(hit.text)), abs=1e-4)

    async def test_reciprocal_rank_fusion_is_the_published_formula(self, library: VectorStore) -> None:
        text = "cats purr songs"  # no two passages with equal scores, whose order would be open
        ranks: dict[str, list[int]] = {}
        for mode in ("dense", "sparse"):
            for rank, hit in enumerate((await ask(library, query(text, mode))).hits):
                ranks.setdefault(hit.passage_id, []).append(rank)
        hits = (await ask(library, query(text, fusion=Fusion(FusionMethod.RRF, rrf_k=10)))).hits
        scores = sorted((hit.score for hit in hits), reverse=True)
        # Rank counts from 0 in one release of Qdrant and from 1 in another; either is the formula.
        candidates = [
            sorted((sum(1 / (10 + first + r) for r in rs) for rs in ranks.values()), reverse=True) for first in (0, 1)
        ]
        assert any(scores == pytest.approx(candidate, abs=1e-4) for candidate in candidates)

    async def test_score_distribution_fusion_rewards_both(self, library: VectorStore) -> None:
        hits = (await ask(library, query("dogs fetch sticks", fusion=Fusion(FusionMethod.DBSF)))).hits
        assert hits[0].text == "dogs fetch sticks"
        assert hits[0].score > hits[1].score

    @pytest.mark.parametrize("mode", MODES)
    async def test_filter(self, library: VectorStore, mode: str) -> None:
        text = "cats dogs birds fish"
        assert set(await found(library, query(text, mode, filter=where("metadata.lang", "en")))) == {"cats", "dogs"}
        assert set(await found(library, query(text, mode, filter=where("metadata.year", 2021)))) == {"dogs", "birds"}
        assert set(await found(library, query(text, mode, filter=where("metadata.tags", "b")))) == {"cats", "dogs"}
        assert set(await found(library, query(text, mode, filter=where("subject", "nemo")))) == {"fish"}
        assert await found(library, query(text, mode, filter=where("metadata.lang", "fr"))) == []
        recent = {"must": [{"key": "metadata.year", "range": {"gte": 2021}}]}
        assert set(await found(library, query(text, mode, filter=recent))) == {"dogs", "birds"}
        others = {"must_not": [{"key": "document_id", "match": {"value": "cats"}}]}
        assert set(await found(library, query(text, mode, filter=others))) == {"dogs", "birds", "fish"}
        assert set(await found(library, query(text, mode, filter={}))) == {"cats", "dogs", "birds", "fish"}

    @pytest.mark.parametrize("mode", MODES)
    async def test_offset_goes_on_where_limit_ended(self, library: VectorStore, mode: str) -> None:
        text = "cats purr songs"  # no two passages with equal scores, whose order would be open
        whole = (await ask(library, query(text, mode, limit=10))).hits
        # Codes have equal scores all the same: so each page is chosen from all passages.
        asked = [query(text, mode, limit=2, offset=at, oversampling=4.0) for at in range(0, 10, 2)]
        pages = [(await ask(library, page)).hits for page in asked]
        assert [hit.passage_id for page in pages for hit in page] == [hit.passage_id for hit in whole]

    async def test_limit_beyond_candidates_is_still_filled(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document(f"d{i}", f"word number{i}") for i in range(30)])
        assert len(await found(store, query("word", candidates=5, limit=20, offset=5))) == 20

    @pytest.mark.parametrize("mode", MODES)
    async def test_group_by_keeps_the_best_of_each_value(self, library: VectorStore, mode: str) -> None:
        text = "cats chase dogs fetch birds fish"
        ungrouped = await found(library, query(text, mode, limit=100))
        grouped = await found(library, query(text, mode, group_by="document_id"))
        assert grouped == list(dict.fromkeys(ungrouped))
        first_two = await found(library, query(text, mode, group_by="document_id", limit=2))
        rest = await found(library, query(text, mode, group_by="document_id", limit=10, offset=2))
        assert first_two + rest == grouped

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "how", [{"exact": True}, {"hnsw_ef": 8}, {"oversampling": 4.0}, {"exact": True, "rescore": False}]
    )
    async def test_how_dense_search_is_done_changes_no_right_answer(
        self, library: VectorStore, mode: str, how: dict[str, Any]
    ) -> None:
        asked = query("cats chase birds", mode, limit=3, filter=where("metadata.lang", "en"))
        usual = (await ask(library, asked)).hits
        hits = (await ask(library, dataclasses.replace(asked, **how))).hits
        assert [hit.passage_id for hit in hits] == [hit.passage_id for hit in usual]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in usual], abs=1e-5)

    async def test_group_by_metadata_leaves_out_what_has_none(self, library: VectorStore) -> None:
        answer = await ask(library, query("cats dogs birds fish", "dense", group_by="metadata.year"))
        assert sorted(hit.metadata["year"] for hit in answer.hits) == [2020, 2021]  # type: ignore[type-var]

    async def test_group_by_looks_past_a_long_document(self, store: VectorStore) -> None:
        """Enough groups are found although one document fills the first hundreds of hits."""
        await store.write(SCOPE, SPACE, [document("long", *["cats purr"] * 400), document("short", "cats sleep")])
        for mode in MODES:
            assert await found(store, query("cats purr", mode, group_by="document_id", limit=2)) == ["long", "short"]

    async def test_facets_count_all_matching_passages(self, library: VectorStore) -> None:
        answer = await ask(library, query("cats", limit=1, facets=("metadata.lang", "document_id", "metadata.nothing")))
        assert answer.total == 6
        assert answer.facets["metadata.lang"] == {"en": 4, "de": 2}
        assert list(answer.facets["metadata.lang"]) == ["en", "de"]
        assert answer.facets["document_id"] == {"cats": 2, "dogs": 2, "birds": 1, "fish": 1}
        assert answer.facets["metadata.nothing"] == {}
        filtered = await ask(library, query("cats", filter=where("metadata.lang", "en"), facets=("metadata.tags",)))
        assert (filtered.total, filtered.facets["metadata.tags"]) == (4, {"b": 4, "a": 2})

    async def test_facets_of_numbers_and_booleans_are_json_texts(self, library: VectorStore) -> None:
        fields = ("metadata.year", "metadata.free", "metadata.score")
        facets = (await ask(library, query("cats", facets=fields))).facets
        assert facets["metadata.year"] == {"2021": 3, "2020": 2}
        assert facets["metadata.free"] == {"true": 1}
        assert facets["metadata.score"] == {"1.5": 1}

    async def test_facets_follow_later_writes(self, library: VectorStore) -> None:
        await ask(library, query("cats", facets=("metadata.lang",)))
        await library.write(SCOPE, SPACE, [document("bees", "bees hum", metadata={"lang": "fr"})])
        assert (await ask(library, query("x", facets=("metadata.lang",)))).facets["metadata.lang"]["fr"] == 1

    async def test_no_total_without_facets(self, library: VectorStore) -> None:
        answer = await ask(library, query("cats"))
        assert (answer.total, answer.facets) == (None, {})

    @pytest.mark.parametrize("mode", ["dense", "hybrid"])
    async def test_diversity_brings_variety(self, store: VectorStore, mode: str) -> None:
        alike = [document(f"same{i}", "cats purr softly today") for i in range(5)]
        await store.write(SCOPE, SPACE, [*alike, document("other", "cats purr loudly outside")])
        relevant = await found(store, query("cats purr softly today", mode, limit=3, diversity=0.0))
        assert "other" not in relevant
        varied = await found(store, query("cats purr softly today", mode, limit=3, diversity=0.9))
        assert varied[0].startswith("same")
        assert varied[1] == "other"

    async def test_diversity_composes_with_filter_offset_and_groups(self, library: VectorStore) -> None:
        fields = {"diversity": 0.5, "filter": where("metadata.lang", "en"), "group_by": "document_id"}
        both = await found(library, query("cats dogs", limit=2, **fields))
        assert set(both) == {"cats", "dogs"}
        assert await found(library, query("cats dogs", limit=1, offset=1, **fields)) == both[1:]

    async def test_a_bad_query_is_its_own_answer_only(self, library: VectorStore) -> None:
        good = query("cats purr softly", limit=1)
        other_space = dataclasses.replace(good, space=VectorSpace("other-model", "1", 8))
        queries = [
            good,
            query("cats", scope=Scope("acme", "nowhere")),
            other_space,
            dataclasses.replace(good, dense=np.zeros(5, np.float32)),
            dataclasses.replace(good, dense=np.full(8, np.nan, np.float32)),
            dataclasses.replace(good, dense=None, sparse=None),
            dataclasses.replace(good, dense=None, diversity=0.5),  # variety is measured between dense vectors
            good,
        ]
        answers = await library.query_batch(queries)
        kinds = [StoreResult, NotFound, Conflict, *[InvalidInput] * 4, StoreResult]
        assert [type(answer) for answer in answers] == kinds
        assert all(str(answer) for answer in answers[1:-1])
        for answer in (answers[0], answers[-1]):
            assert isinstance(answer, StoreResult)
            assert answer.hits[0].document_id == "cats"

    async def test_answers_come_in_the_order_of_the_queries(self, library: VectorStore) -> None:
        second = Scope("acme", "second")
        await library.write(second, SPACE, [document("only", "cats dogs birds fish")])
        texts = [part.passage.text for item in LIBRARY for part in item.passages]
        queries: list[StoreQuery] = []
        for text in texts:
            queries += [query(text, mode, limit=1) for mode in MODES] + [query(text, scope=second, limit=1)]
        answers = await library.query_batch(queries)
        first = [answer.hits[0].text for answer in answers if isinstance(answer, StoreResult)]
        assert first == [expected for text in texts for expected in (*[text] * 3, "cats dogs birds fish")]
        assert await library.query_batch([]) == []

    async def test_queries_go_on_during_writes(self, library: VectorStore) -> None:
        async def write() -> None:
            for i in range(10):
                await library.write(SCOPE, SPACE, [document(f"new{i}-{j}", f"goats jump{j}") for j in range(20)])

        writing = asyncio.create_task(write())
        while not writing.done():
            assert (await found(library, query("cats purr softly", limit=1))) == ["cats"]
        await writing
        assert len(await found(library, query("goats", "sparse", limit=200, candidates=300))) == 200

    async def test_bm25_weights_are_those_of_the_encoder(self, store: VectorStore) -> None:
        """One passage only: every word has the same inverse document frequency, so weights alone decide."""
        await store.write(SCOPE, SPACE, [document("one", "cats cats cats purr")])
        one = (await ask(store, query("purr", "sparse"))).hits[0].score
        three = (await ask(store, query("cats", "sparse"))).hits[0].score
        [vector] = BM25.encode_passages(["cats cats cats purr"])
        weights = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
        cats, purr = (weights[BM25.encode_query(word).indices.tolist()[0]] for word in ("cats", "purr"))
        assert three / one == pytest.approx(cats / purr, rel=1e-3)
