"""The stores' contract for indexes: a new index is built beside the active one and replaces it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest

from serve_app.errors import Conflict, InvalidInput, NotFound
from serve_app.ports import VectorStore
from serve_app.query_types import StoreQuery
from serve_app.types import FIRST_INDEX, IndexedDocument, Principal, Recipe, Scope, StoredVersion, VectorSpace
from tests.contracts.corpus import SCOPE, SPACE, ask, document, found, listed_ids, query

FINE = Recipe(SPACE, max_tokens=64, overlap_tokens=0)
OTHER = Recipe(VectorSpace("bag-of-letters", "1", 3), max_tokens=64, overlap_tokens=0, precision="fp32")
LEASE_S = 60.0


def in_other_space(indexed: IndexedDocument) -> IndexedDocument:
    vector = np.array([1, 0, 0], np.float32)
    return replace(indexed, passages=tuple(replace(one, dense=vector) for one in indexed.passages))


def other_query(text: str) -> StoreQuery:
    return replace(query(text), space=OTHER.space, dense=np.array([1, 0, 0], np.float32))


async def switch(store: VectorStore, scope: Scope) -> None:
    await store.switch(scope, await store.hold(scope, LEASE_S))


class IndexesContract:
    async def test_a_collection_begins_with_one_index(self, store: VectorStore) -> None:
        for call in (store.active_index(SCOPE), store.indexes(SCOPE), store.make_index(SCOPE.at("x"), FINE)):
            with pytest.raises(NotFound, match=r"^there is no collection 'handbook'$"):
                await call
        await store.write(SCOPE, SPACE, [document("d", "text")])
        [only] = await store.indexes(SCOPE)
        assert only == await store.active_index(SCOPE)
        assert (only.scope, only.recipe, only.is_active) == (SCOPE.at(FIRST_INDEX), Recipe(SPACE), True)
        assert (await ask(store, query("text"))).index == FIRST_INDEX

    async def test_an_index_is_built_beside_the_active_one(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "old text")])
        built = SCOPE.at(OTHER.index_name)
        for _ in range(2):  # again changes nothing
            await store.make_index(built, OTHER)
        with pytest.raises(Conflict):
            await store.make_index(built, FINE)
        before = await store.version(SCOPE)
        new = [in_other_space(document("d", "new text")), in_other_space(document("e", "more new"))]
        await store.write(built, OTHER.space, new)
        assert await store.version(SCOPE) == before, "the active index has not changed"
        assert [hit.text for hit in (await ask(store, query("text"))).hits] == ["old text"]
        assert await listed_ids(store) == ["d"] and await store.fingerprints(SCOPE, ["e"]) == {}
        assert sorted(await listed_ids(store, built)) == ["d", "e"]
        assert (await store.document(built, "d")).text == "new text"
        assert (await store.count(built)).passages == 2
        assert set(await store.indexed_documents(built, ["d", "e"])) == {"d", "e"}
        assert await store.delete_documents(built, ["e"]) == 1
        [listed] = await store.collections(SCOPE.tenant)
        assert (listed.name, listed.documents, listed.passages, listed.space) == ("handbook", 1, 1, SPACE)
        assert [(one.scope, one.recipe, one.is_active) for one in await store.indexes(SCOPE)] == [
            (SCOPE.at(FIRST_INDEX), Recipe(SPACE), True),
            (built, OTHER, False),
        ]

    async def test_a_switch_activates_it(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "old text")])
        built = SCOPE.at(OTHER.index_name)
        await store.make_index(built, OTHER)
        await store.write(built, OTHER.space, [in_other_space(document("d", "new text"))])
        before = await store.version(SCOPE)
        await switch(store, built)
        await store.switch(built, "a repeated call, whose first was done without an answer")
        assert before is None or await store.version(SCOPE) not in (before, None)
        answer = await ask(store, other_query("text"))
        assert ([hit.text for hit in answer.hits], answer.index) == (["new text"], built.index)
        with pytest.raises(Conflict):
            await ask(store, query("text"))  # of the former space
        assert (await store.document(SCOPE, "d")).text == "new text"
        assert (await store.active_index(SCOPE)).recipe == OTHER
        [listed] = await store.collections(SCOPE.tenant)
        assert (listed.name, listed.space) == ("handbook", OTHER.space)

        with pytest.raises(Conflict):
            await store.write(SCOPE, SPACE, [document("e", "late")])
        await store.write(SCOPE, OTHER.space, [in_other_space(document("e", "late"))])
        assert await found(store, replace(other_query("late"), dense=None)) == ["e"]
        old = SCOPE.at(FIRST_INDEX)
        assert (await store.document(old, "d")).text == "old text"
        assert await listed_ids(store, old) == ["d"]
        assert await store.delete_documents(SCOPE, ["d"]) == 1
        assert await listed_ids(store, old) == ["d"]

    async def test_and_back(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "old text")])
        await store.make_index(SCOPE.at("fine"), FINE)
        await switch(store, SCOPE.at("fine"))
        assert await listed_ids(store) == []
        await switch(store, SCOPE.at(FIRST_INDEX))
        assert await found(store, query("text")) == ["d"]
        assert [one.scope.index for one in await store.indexes(SCOPE)] == [FIRST_INDEX, "fine"]

    async def test_writes_to_an_index_by_name_are_refused_once_it_is_active(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text")])
        for scope in (SCOPE.at(FIRST_INDEX), SCOPE.at("none")):
            for change in (store.write(scope, SPACE, [document("e", "x")]), store.delete_documents(scope, ["d"])):
                with pytest.raises(Conflict if scope.index == FIRST_INDEX else NotFound):
                    await change
        await store.make_index(SCOPE.at("fine"), FINE)
        await store.write(SCOPE.at("fine"), SPACE, [document("d", "text")])
        await switch(store, SCOPE.at("fine"))
        with pytest.raises(Conflict):
            await store.write(SCOPE.at("fine"), SPACE, [document("d", "stale")])
        assert (await store.document(SCOPE, "d")).text == "text"

    async def test_documents_that_were_made_for_another_index_are_refused(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text")], made_for=None)
        await store.write(SCOPE, SPACE, [document("e", "text")], made_for=FIRST_INDEX)
        await store.make_index(SCOPE.at("fine"), FINE)
        await switch(store, SCOPE.at("fine"))
        with pytest.raises(Conflict, match="fine is active"):
            await store.write(SCOPE, SPACE, [document("f", "text")], made_for=FIRST_INDEX)
        assert await listed_ids(store) == []
        await store.write(SCOPE, SPACE, [document("f", "text")], made_for="fine")
        assert await listed_ids(store) == ["f"]

    async def test_writes_wait_while_they_are_held_back_and_then_go_to_the_active_index(
        self, store: VectorStore
    ) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text"), document("old", "text")])
        await store.make_index(SCOPE.at("fine"), FINE)
        await store.write(SCOPE.at("fine"), SPACE, [document("d", "text"), document("old", "text")])
        held = await store.hold(SCOPE, LEASE_S)
        with pytest.raises(Conflict, match="held back"):
            await store.hold(SCOPE, LEASE_S)
        writing = asyncio.create_task(store.write(SCOPE, SPACE, [document("e", "waits")]))
        deleting = asyncio.create_task(store.delete_documents(SCOPE, ["d"]))
        done, _ = await asyncio.wait([writing, deleting], timeout=0.3)
        assert not done
        assert await found(store, query("text", "sparse")) != [], "searches do not wait"
        await store.switch(SCOPE.at("fine"), held)
        async with asyncio.timeout(20):
            await writing
            assert await deleting == 1
        assert sorted(await listed_ids(store)) == ["e", "old"]

    async def test_a_hold_that_is_released_or_over_holds_nothing_back_and_nothing_can_be_switched(
        self, store: VectorStore
    ) -> None:
        await store.write(SCOPE, SPACE, [])
        await store.make_index(SCOPE.at("fine"), FINE)
        held = await store.hold(SCOPE, LEASE_S)
        await store.release(SCOPE, held)
        await store.write(SCOPE, SPACE, [document("d", "text")])
        with pytest.raises(Conflict, match="again"):
            await store.switch(SCOPE.at("fine"), held)
        held = await store.hold(SCOPE, 0.2)
        await store.write(SCOPE, SPACE, [document("e", "text")])  # waits for the end of the lease
        with pytest.raises(Conflict, match="again"):
            await store.switch(SCOPE.at("fine"), held)
        await store.release(SCOPE, held)
        assert sorted(await listed_ids(store)) == ["d", "e"]
        assert (await store.active_index(SCOPE)).scope.index == FIRST_INDEX

    async def test_what_is_acknowledged_before_a_hold_is_read_in_it(self, store: VectorStore) -> None:
        """However many write at that moment."""
        await store.write(SCOPE, SPACE, [])
        acknowledged: list[str] = []

        async def write(id: str) -> None:
            await store.write(SCOPE, SPACE, [document(id, "text")])
            acknowledged.append(id)

        writers = [asyncio.create_task(write(f"d{number}")) for number in range(12)]
        await asyncio.sleep(0)
        held = await store.hold(SCOPE, LEASE_S)
        before = set(acknowledged)
        stored = {one.document_id for one in (await store.inventory(SCOPE)).documents if one.fingerprint}
        assert before <= stored and set(acknowledged) <= stored
        await store.release(SCOPE, held)
        await asyncio.gather(*writers)
        assert len(await listed_ids(store)) == 12

    async def test_every_change_of_an_index_or_of_its_collection_makes_a_new_version_of_the_index(
        self, store: VectorStore
    ) -> None:
        built = SCOPE.at("built")
        await store.write(SCOPE, SPACE, [document("d", "text")])
        await store.make_index(built, FINE)
        versions = [await store.version(built)]
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: store.write(built, SPACE, [document("d", "new text")]),
            lambda: store.delete_documents(built, ["d"]),
            lambda: store.write(SCOPE, SPACE, [document("e", "text")]),
            lambda: switch(store, built),
            lambda: store.write(SCOPE, SPACE, [document("f", "text")]),  # into the index that is active now
            lambda: switch(store, SCOPE.at(FIRST_INDEX)),
            lambda: store.drop(built),
        ]
        for change in changes:
            await change()
            versions.append(await store.version(built))
        assert set(versions) == {None} or (len(set(versions)) == len(versions) and None not in versions)
        assert await store.version(built) == versions[-1]

    async def test_an_inventory_has_every_document_s_version(self, store: VectorStore) -> None:
        many = [document(f"d{number}", *["part"] * (number % 3), fingerprint=f"f{number}") for number in range(10)]
        await store.write(SCOPE, SPACE, many)
        seen: list[StoredVersion] = []
        cursor: str | None = None
        while True:
            page = await store.inventory(SCOPE, limit=3, cursor=cursor)
            seen += page.documents
            if (cursor := page.cursor) is None:
                break
        assert [one.document_id for one in seen] == await listed_ids(store)
        assert {(one.document_id, one.fingerprint, one.passages) for one in seen} == {
            (f"d{number}", f"f{number}", number % 3) for number in range(10)
        }

    async def test_an_index_that_is_no_longer_active_can_be_dropped_alone(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text")])
        await store.make_index(SCOPE.at("fine"), FINE)
        with pytest.raises(Conflict, match="is active"):
            await store.drop(SCOPE.at(FIRST_INDEX))
        with pytest.raises(NotFound):
            await store.drop(SCOPE.at("none"))
        await store.write(SCOPE.at("fine"), SPACE, [document("d", "text")])
        await switch(store, SCOPE.at("fine"))
        await store.drop(SCOPE.at(FIRST_INDEX))
        assert [one.scope.index for one in await store.indexes(SCOPE)] == ["fine"]
        assert await found(store, query("text")) == ["d"]
        assert [info.name for info in await store.collections(SCOPE.tenant)] == ["handbook"]

    @pytest.mark.parametrize("first_is_there", [True, False])
    async def test_a_collection_goes_with_all_of_its_indexes(self, store: VectorStore, first_is_there: bool) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text")])
        for name in ("fine", "left-over"):
            await store.make_index(SCOPE.at(name), FINE)
        await switch(store, SCOPE.at("fine"))
        if not first_is_there:
            await store.drop(SCOPE.at(FIRST_INDEX))
        await store.write(replace(SCOPE, collection="handbook2"), SPACE, [])
        await store.drop(SCOPE)
        assert [info.name for info in await store.collections(SCOPE.tenant)] == ["handbook2"]
        for index in ("", FIRST_INDEX, "fine", "left-over"):
            with pytest.raises(NotFound):
                await store.count(SCOPE.at(index))
        await store.write(SCOPE, OTHER.space, [in_other_space(document("anew", "text"))])
        [only] = await store.indexes(SCOPE)
        assert (only.scope.index, only.recipe) == (FIRST_INDEX, Recipe(OTHER.space))
        assert await listed_ids(store) == ["anew"]

    async def test_no_user_can_name_an_index(self, store: VectorStore) -> None:
        await store.write(SCOPE, SPACE, [document("d", "text")])
        await store.make_index(SCOPE.at("fine"), FINE)
        for name in ("handbook~fine", "handbook~", "handbook/fine"):
            with pytest.raises(InvalidInput):
                Principal(SCOPE.tenant, "ann").scope(name)
        assert Principal(SCOPE.tenant, "ann").scope("fine").index == ""
