"""The contract suite for every VectorStore. A subclass provides `store`, empty at the begin of each test."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from serve_app.errors import Conflict, InvalidInput, NotFound
from serve_app.ports import VectorStore
from serve_app.types import Document, JsonObject, JsonValue, ListedDocument, Scope, SparseVector, VectorSpace
from serve_app.validation import INT64, MAX_METADATA_DEPTH
from tests.contracts.corpus import SCOPE, SPACE, ask, document, found, listed_ids, passage, query, where
from tests.contracts.indexes import IndexesContract
from tests.contracts.vector_queries import LIBRARY, VectorQueryContract

ODD_IDS = ["a/b:c?d=é", "nul\0inside", "日本語 🦜", " ", "x" * 2_000, '"quoted" \\ [0].b', "\x1f", "e\u0301", "\u00e9"]


def deep_list(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


class VectorStoreContract(VectorQueryContract, IndexesContract):
    async def test_a_written_document_comes_back_whole(self, store: VectorStore) -> None:
        metadata = {
            "n": 1,
            "f": 0.5,
            "b": True,
            "none": None,
            "list": [1, "x"],
            "deep": {"a.b": {"c": "é"}},
            "": "empty",
        }
        whole = Document("id", "text\n" * 3, "title", "https://x.org", metadata, "someone")
        indexed = document("id", "text")
        await store.write(SCOPE, SPACE, [dataclasses.replace(indexed, document=whole)])
        assert await store.document(SCOPE, "id") == whole
        listed = ListedDocument("id", "title", "https://x.org", metadata, "someone")
        assert (await store.listing(SCOPE)).documents == (listed,)

    async def test_fingerprints_are_of_stored_documents_only(self, store: VectorStore) -> None:
        assert await store.fingerprints(SCOPE, ["cats"]) == {}
        await store.write(SCOPE, SPACE, LIBRARY)
        wanted = {item.document.id: item.fingerprint for item in LIBRARY}
        assert await store.fingerprints(SCOPE, [*wanted, "absent"]) == wanted
        assert await store.fingerprints(SCOPE, []) == {}

    async def test_indexed_documents_come_back_as_they_were_written(self, store: VectorStore) -> None:
        assert await store.indexed_documents(SCOPE, ["d"]) == {}
        written = document("d", "cats purr", "", *[f"part{n}" for n in range(300)], metadata={"n": 1}, subject="s")
        digests = [dataclasses.replace(one, digest=f"digest{n}") for n, one in enumerate(written.passages)]
        written = dataclasses.replace(written, passages=tuple(digests))
        await store.write(SCOPE, SPACE, [written, document("empty")])
        found = await store.indexed_documents(SCOPE, ["d", "empty", "absent"])
        assert set(found) == {"d", "empty"}
        again = found["d"]
        assert (again.document, again.fingerprint) == (written.document, written.fingerprint)
        for one, before in zip(again.passages, written.passages, strict=True):
            assert (one.passage, one.digest) == (before.passage, before.digest)
            np.testing.assert_allclose(one.dense, before.dense, atol=1e-6)
            assert one.dense.dtype == np.float32
            terms, terms_before = (
                dict(zip(v.indices.tolist(), v.values.tolist(), strict=True)) for v in (one.sparse, before.sparse)
            )
            assert terms == terms_before

    async def test_a_document_of_which_a_part_changed_is_stored_whole(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", *[f"word{n}" for n in range(9)], fingerprint="1")])
        now = document("d", "word0", "another1", *[f"word{n}" for n in range(2, 7)], "another7", fingerprint="2")
        await store.write(SCOPE, SPACE, [now])
        again = (await store.indexed_documents(SCOPE, ["d"]))["d"]
        assert again.fingerprint == "2" and again.document == now.document
        assert [one.passage for one in again.passages] == [one.passage for one in now.passages]
        assert await found(store, query("word1", "sparse")) == await found(store, query("word8", "sparse")) == []
        assert await found(store, query("another7", "sparse")) == ["d"]

    @pytest.mark.parametrize("parts", [0, 1, 2, 3, 5])
    async def test_a_replaced_document_leaves_no_stale_passage(self, store: VectorStore, parts: int) -> None:
        await store.write(SCOPE, SPACE, [document("d", *[f"old part{i}" for i in range(3)]), document("e", "old")])
        await store.write(SCOPE, SPACE, [document("d", *[f"new part{i}" for i in range(parts)], fingerprint="2")])
        texts = sorted(hit.text for hit in (await ask(store, query("part old new", "dense"))).hits)
        assert texts == sorted(["old", *[f"new part{i}" for i in range(parts)]])
        assert await found(store, query("old", "sparse")) == ["e"]
        assert (await store.count(SCOPE)).passages == parts + 1
        assert (await store.fingerprints(SCOPE, ["d"])) == {"d": "2"}

    async def test_repeating_a_write_changes_nothing(self, store: VectorStore) -> None:
        for _ in range(3):
            await store.write(SCOPE, SPACE, LIBRARY)
            info = await store.count(SCOPE)
            assert (info.documents, info.passages) == (5, 6)

    async def test_the_last_of_equal_ids_in_one_call_wins(self, store: VectorStore) -> None:
        twice = [document("d", "first", "second"), document("d", "third", fingerprint="last")]
        await store.write(SCOPE, SPACE, twice)
        assert (await store.document(SCOPE, "d")).text == "third"
        assert (await store.count(SCOPE)).passages == 1
        assert await store.fingerprints(SCOPE, ["d"]) == {"d": "last"}

    async def test_document_without_passages(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("empty")])
        assert (await store.document(SCOPE, "empty")).title == "Title of empty"
        assert await found(store, query("anything")) == []
        info = await store.count(SCOPE)
        assert (info.documents, info.passages) == (1, 0)
        assert await store.delete_documents(SCOPE, ["empty"]) == 1

    async def test_empty_write_makes_the_collection(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [])
        assert (await store.count(SCOPE)).documents == 0
        assert await found(store, query("anything")) == []

    async def test_many_documents_in_one_call(self, store: VectorStore) -> None:
        many = [document(f"doc{i}", f"words of{i}", f"more of{i}") for i in range(700)]
        await store.write(SCOPE, SPACE, many)
        info = await store.count(SCOPE)
        assert (info.documents, info.passages) == (700, 1_400)
        ids = [item.document.id for item in many]
        assert len(await store.fingerprints(SCOPE, ids)) == 700
        assert await store.delete_documents(SCOPE, ids[:650]) == 650
        assert sorted(await listed_ids(store)) == sorted(ids[650:])

    async def test_deleted_documents_are_gone(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        assert await store.delete_documents(SCOPE, ["cats", "absent", "cats"]) == 1
        assert await store.delete_documents(SCOPE, ["cats"]) == 0
        assert "cats" not in await found(store, query("cats purr softly", limit=100))
        assert await store.fingerprints(SCOPE, ["cats"]) == {}
        with pytest.raises(NotFound):
            await store.document(SCOPE, "cats")
        info = await store.count(SCOPE)
        assert (info.documents, info.passages) == (4, 4)

    async def test_a_deleted_document_can_come_back(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        await store.delete_documents(SCOPE, ["cats"])
        await store.write(SCOPE, SPACE, [document("cats", "cats return")])
        assert await found(store, query("cats", "sparse")) == ["cats"]

    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    async def test_a_listing_has_every_document_once(self, store: VectorStore, limit: int) -> None:
        ids = {f"doc{i}" for i in range(20)}
        await store.write(SCOPE, SPACE, [document(id, "a", "b", metadata={"even": int(id[3:]) % 2 == 0}) for id in ids])
        seen = await listed_ids(store, limit=limit)
        assert len(seen) == 20
        assert set(seen) == ids
        assert await listed_ids(store, limit=limit) == seen
        even = await listed_ids(store, limit=limit, filter=where("metadata.even", True))
        assert even == [id for id in seen if int(id[3:]) % 2 == 0]

    async def test_a_cursor_of_nowhere_is_refused(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        for cursor in ("nonsense", ""):
            with pytest.raises(InvalidInput, match="cursor"):
                await store.listing(SCOPE, cursor=cursor)

    async def test_count_with_filter(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        info = await store.count(SCOPE, where("metadata.lang", "en"))
        assert (info.name, info.documents, info.passages, info.space) == ("handbook", 2, 4, SPACE)
        info = await store.count(SCOPE, where("subject", "nemo"))
        assert (info.documents, info.passages) == (1, 1)

    async def test_tenants_never_see_each_other(self, store: VectorStore) -> None:
        rival = Scope("rival", SCOPE.collection)
        await store.write(SCOPE, SPACE, [document("d", "secret of acme")])
        await store.write(rival, SPACE, [document("d", "secret of rival"), document("e", "more")])
        assert [hit.text for hit in (await ask(store, query("secret"))).hits] == ["secret of acme"]
        assert (await store.document(rival, "d")).text == "secret of rival"
        await store.delete_documents(rival, ["d"])
        assert (await store.document(SCOPE, "d")).text == "secret of acme"
        await store.drop(rival)
        assert await listed_ids(store) == ["d"]
        assert [info.name for info in await store.collections("acme")] == ["handbook"]
        assert await store.collections("rival") == []

    async def test_names_do_not_run_into_each_other(self, store: VectorStore) -> None:
        scopes = [Scope("a", "b-c"), Scope("a-b", "c"), Scope("a.b", "c"), Scope("a", "b.c"), Scope("a_b", "c")]
        for number, scope in enumerate(scopes):
            await store.write(scope, SPACE, [document(f"d{number}", "text")])
        for number, scope in enumerate(scopes):
            assert await listed_ids(store, scope) == [f"d{number}"]
        assert [info.name for info in await store.collections("a")] == ["b-c", "b.c"]

    async def test_collections_by_name(self, store: VectorStore) -> None:
        assert await store.collections("acme") == []
        for name in ("b", "a", "c"):
            await store.write(Scope("acme", name), SPACE, LIBRARY[: "abc".index(name)])
        assert [(i.name, i.documents, i.space) for i in await store.collections("acme")] == [
            (name, "abc".index(name), SPACE) for name in "abc"
        ]

    async def test_a_dropped_collection_is_unknown_and_can_come_back(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        await store.drop(SCOPE)
        with pytest.raises(NotFound):
            await store.count(SCOPE)
        other = VectorSpace("another-model", "2", 8)
        await store.write(SCOPE, other, [document("new", "text")])
        assert (await store.count(SCOPE)).space == other
        assert await listed_ids(store) == ["new"]

    async def test_unknown_collection_is_not_found(self, store: VectorStore) -> None:
        for call in (
            store.document(SCOPE, "d"),
            store.delete_documents(SCOPE, ["d"]),
            store.listing(SCOPE),
            store.count(SCOPE),
            store.drop(SCOPE),
        ):
            with pytest.raises(NotFound, match=r"^there is no collection 'handbook'$"):
                await call
        [answer] = await store.query_batch([query("text")])
        assert (type(answer), str(answer)) == (NotFound, "there is no collection 'handbook'")

    async def test_another_space_conflicts_and_changes_nothing(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, LIBRARY)
        for other in (VectorSpace("bag-of-words", "2", 8), VectorSpace("bag-of-words", "1", 9)):
            with pytest.raises(Conflict, match="handbook"):
                await store.write(SCOPE, other, [document("new", "text")])
        assert sorted(await listed_ids(store)) == sorted(item.document.id for item in LIBRARY)

    async def test_odd_ids(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document(id, f"text number{i}") for i, id in enumerate(ODD_IDS)])
        assert sorted(await listed_ids(store)) == sorted(ODD_IDS)
        for number, id in enumerate(ODD_IDS):
            assert await found(store, query(f"number{number}", "sparse", filter=where("document_id", id))) == [id]
            assert (await store.document(SCOPE, id)).id == id
            assert await store.delete_documents(SCOPE, [id]) == 1
        assert (await store.count(SCOPE)).passages == 0

    @pytest.mark.parametrize(
        "bad",
        [
            dataclasses.replace(passage(0, "x"), dense=np.full(8, np.nan, np.float32)),
            dataclasses.replace(passage(0, "x"), dense=np.full(8, np.inf, np.float32)),
            dataclasses.replace(passage(0, "x"), dense=np.ones(7, np.float32)),
            dataclasses.replace(passage(0, "x"), sparse=SparseVector(np.ones(2, np.uint32), np.ones(1, np.float32))),
            passage(1, "not the first"),
        ],
    )
    async def test_bad_vectors_are_refused_and_nothing_is_written(self, store: VectorStore, bad: object) -> None:
        await store.write(SCOPE, SPACE, [document("d", "old")])
        broken = dataclasses.replace(document("broken", "x"), passages=(bad,))
        with pytest.raises(InvalidInput, match="'broken'"):
            await store.write(SCOPE, SPACE, [document("d", "new"), broken])
        assert (await store.document(SCOPE, "d")).text == "old"

    @pytest.mark.parametrize(
        "value", [float("nan"), "\ud800", {"x": [float("inf")]}, deep_list(MAX_METADATA_DEPTH), INT64.stop]
    )
    async def test_metadata_that_is_not_json_is_refused(self, store: VectorStore, value: object) -> None:
        with pytest.raises(InvalidInput, match="'d'"):
            await store.write(SCOPE, SPACE, [document("d", "text", metadata={"bad": value})])  # type: ignore[dict-item]
        assert await store.collections(SCOPE.tenant) == []  # nor was a collection made for it

    async def test_metadata_at_its_bounds_comes_back(self, store: VectorStore) -> None:
        metadata: JsonObject = {"deep": deep_list(MAX_METADATA_DEPTH - 1), "least": INT64[0], "most": INT64[-1]}
        await store.write(SCOPE, SPACE, [document("d", "text", metadata=metadata)])
        assert (await store.document(SCOPE, "d")).metadata == metadata

    async def test_concurrent_writers(self, store: VectorStore) -> None:
        """To a collection that none has made yet, to different documents and to one and the same."""
        versions = [[document(f"own{w}", "x y"), document("shared", *[f"v{w}"] * (w + 1))] for w in range(8)]
        await asyncio.gather(*(store.write(SCOPE, SPACE, batch) for batch in versions))
        assert sorted(await listed_ids(store)) == sorted(["shared", *[f"own{w}" for w in range(8)]])
        answer = await ask(store, query("v", "dense", filter=where("document_id", "shared"), limit=100))
        [text] = {hit.text for hit in answer.hits}  # one version won, whole
        assert len(answer.hits) == int(text[1:]) + 1
        assert (await store.document(SCOPE, "shared")).text.split("\n") == [text] * len(answer.hits)

    async def test_check_returns(self, store: VectorStore) -> None:
        await store.check()

    async def test_every_write_makes_a_new_version_if_the_store_can_tell(self, store: VectorStore) -> None:
        await store.fingerprints(SCOPE, ["d"])  # the store is there
        versions = [await store.version(SCOPE)]
        for change in (
            store.write(SCOPE, SPACE, [document("d", "text")]),
            store.write(SCOPE, SPACE, [document("d", "text", fingerprint="2")]),
            store.delete_documents(SCOPE, ["d"]),
            store.drop(SCOPE),
        ):
            await change
            versions.append(await store.version(SCOPE))
        assert set(versions) == {None} or (len(set(versions)) == 5 and None not in versions)
        assert await store.version(SCOPE) == versions[-1]
