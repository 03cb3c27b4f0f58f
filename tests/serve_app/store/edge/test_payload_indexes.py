"""Payload indexes change how long a search takes, but never its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_edge import CountRequest, EdgeShard, PayloadSchemaType

from serve_app.errors import InvalidInput
from serve_app.settings import StoreSettings
from serve_app.store.edge.payload_indexes import (
    MAX_INDEXES,
    MAX_INDEXES_FOR_FILTERS,
    edge_filter,
    facet_indexes,
    filter_indexes,
)
from serve_app.store.edge.shard import apply, create_index, create_shard
from serve_app.store.edge.store import EdgeStore
from serve_app.store.filters.parse import parse_filter, to_edge
from serve_app.store.payload import DOCUMENT, PASSAGE, document_payload, passage_payload, restrict
from serve_app.store.points import StoredPoint
from serve_app.store.write_plan import Put
from serve_app.types import Document
from tests.contracts.corpus import SCOPE, SPACE, ask, document, found, passage, query, where

KINDS = PayloadSchemaType
VALUES = ["a", "b", "2024-01-01", "2024-06-01T10:00:00Z", "1", 0, 1, 2, 1.0, 1.5, -3, True, False, None, 2**40]

fields = st.sampled_from(["x", "y", "deep.z"])
texts, integers = st.sampled_from([v for v in VALUES if isinstance(v, str)]), st.sampled_from([0, 1, 2, 2**40])
operands = st.one_of(
    st.fixed_dictionaries({"value": st.one_of(texts, integers, st.booleans())}),
    st.fixed_dictionaries({"any": st.one_of(st.lists(texts, min_size=1), st.lists(integers, min_size=1))}),
    st.fixed_dictionaries({"except": st.one_of(st.lists(texts, min_size=1), st.lists(integers, min_size=1))}),
)
bounds = st.sampled_from(
    [{"gte": 1}, {"gt": 1, "lt": 2}, {"lte": 1.5}, {"gte": "2024-01-01"}, {"lt": "2024-06-01T10:00:00Z"}]
)
conditions = st.one_of(
    st.fixed_dictionaries({"key": fields, "match": operands}),
    st.fixed_dictionaries({"key": fields, "range": bounds}),
    st.fixed_dictionaries({"is_empty": st.fixed_dictionaries({"key": fields})}),
)
filters = st.dictionaries(
    st.sampled_from(["must", "should", "must_not"]), st.lists(conditions, min_size=1, max_size=2), min_size=1
)


def metadata(number: int) -> dict[str, Any]:
    """Fields of mixed types, lists among them."""
    n = len(VALUES)
    x, y = VALUES[number % n], VALUES[number * 7 % n]
    return {"x": [x, y] if number % 3 == 0 else x, "y": y, "deep": {"z": [y] if number % 2 else x}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[EdgeShard, EdgeShard]:
    """The same points without indexes on metadata, and with all that may ever be made."""
    plain, indexed = (create_shard(tmp_path_factory.mktemp("shard"), StoreSettings(), 4) for _ in range(2))
    documents = [Document("d", "", metadata=metadata(n)) for n in range(60)]
    payloads = [passage_payload(document, passage(0, "text")) for document in documents]
    payloads += [document_payload(document, 1, "f") for document in documents]
    points = [StoredPoint(f"00000000-0000-0000-0000-{n:012}", payload) for n, payload in enumerate(payloads)]
    for shard in (plain, indexed):
        apply(shard, Put(tuple(points)))
    for field in ("x", "y", "deep.z"):
        create_index(indexed, f"facets.{field}", KINDS.Keyword)
        create_index(indexed, f"dates.{field}", KINDS.Datetime)
        create_index(indexed, f"metadata.{field}", KINDS.Float)
    return plain, indexed


@given(filters)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neither_rewriting_nor_an_index_changes_an_answer(shards: tuple[EdgeShard, EdgeShard], raw: object) -> None:
    plain, indexed = shards
    canonical = parse_filter(raw, max_depth=8, max_conditions=100)
    for kind in (PASSAGE, DOCUMENT):
        expected = plain.count(CountRequest(exact=True, filter=to_edge(restrict(canonical, kind))))
        for shard in (plain, indexed):
            assert shard.count(CountRequest(exact=True, filter=edge_filter(canonical, kind))) == expected


def test_which_indexes_a_query_wants() -> None:
    raw = {
        "must": [
            {"key": "lang", "match": {"value": "en"}},
            {"key": "title", "match": {"value": "t"}},
            {"key": "url", "match": {"text": "words"}},
            {"should": [{"key": "year", "match": {"any": [2020, 2021]}}, {"key": "free", "match": {"value": True}}]},
        ],
        "must_not": [{"key": "price", "range": {"gt": 3}}, {"is_empty": {"key": "absent"}}],
        "min_should": {"conditions": [{"key": "at", "range": {"gt": "2024-01-01"}}], "min_count": 1},
        "should": [{"nested": {"key": "authors", "filter": {"must": [{"key": "name", "match": {"value": "x"}}]}}}],
    }
    assert dict(facet_indexes(["metadata.tags", "url"])) == {"facets.tags": KINDS.Keyword, "url": KINDS.Keyword}
    assert dict(filter_indexes(parse_filter(raw, max_depth=8, max_conditions=100))) == {
        "facets.lang": KINDS.Keyword,
        "title": KINDS.Keyword,
        "facets.year": KINDS.Keyword,
        "facets.free": KINDS.Keyword,
        "metadata.price": KINDS.Float,
        "dates.at": KINDS.Datetime,
    }


async def test_fields_of_their_own_are_filtered_with_and_without_their_index(store: EdgeStore) -> None:
    for key, value in (("title", "Title of d"), ("url", "https://x.org/d"), ("headings", "Heading"), ("number", 0)):
        assert await found(store, query("text", filter=where(key, value))) == ["d"]
        assert await found(store, query("text", filter={"must_not": [where(key, value)]})) == []
    never = {"must": [{"key": "number", "range": {"lt": "2024-01-01"}}]}
    assert await found(store, query("text", filter=never)) == []


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [document("d", "text", metadata={f"f{n}": "v" for n in range(MAX_INDEXES + 1)})])
    yield store
    await store.close()


async def test_a_number_and_a_text_that_reads_like_it(store: EdgeStore) -> None:
    """Count as one value for a facet, and are two for a filter."""
    both = [document("number", "word", metadata={"v": 1}), document("text", "word", metadata={"v": "1"})]
    await store.write(SCOPE, SPACE, both)
    assert (await ask(store, query("word", facets=("metadata.v",)))).facets["metadata.v"] == {"1": 2}
    assert await found(store, query("word", filter=where("metadata.v", 1))) == ["number"]
    assert await found(store, query("word", filter=where("metadata.v", "1"))) == ["text"]


async def indexes(store: EdgeStore) -> set[str]:
    """Once the writer has made those that are coming."""
    await asyncio.wrap_future(store._collections.opened[SCOPE].submit(lambda: None))
    with store._collections.opened[SCOPE].shard() as shard:
        return set(shard.info().payload_schema)


async def test_no_more_indexes_than_a_collection_may_have(store: EdgeStore) -> None:
    """Then filters are slower and right, and facets, which have room of their own, say so."""
    for number in range(MAX_INDEXES + 1):
        assert await found(store, query("text", filter=where(f"metadata.f{number}", "v"))) == ["d"]
    assert len(await indexes(store)) == MAX_INDEXES_FOR_FILTERS
    for number in range(MAX_INDEXES - MAX_INDEXES_FOR_FILTERS):
        path = f"metadata.f{MAX_INDEXES_FOR_FILTERS + number}"
        assert (await ask(store, query("text", facets=(path,)))).facets[path] == {"v": 1}
    assert len(await indexes(store)) == MAX_INDEXES
    with pytest.raises(InvalidInput, match=f"{MAX_INDEXES} fields"):
        await ask(store, query("text", facets=(f"metadata.f{MAX_INDEXES}",)))
    assert (await ask(store, query("text", facets=("document_id",)))).facets["document_id"] == {"d": 1}
    assert (await ask(store, query("text", facets=("metadata.nobody",)))).facets["metadata.nobody"] == {}


async def test_made_up_names_get_no_index(store: EdgeStore) -> None:
    """Until a passage has the field."""
    before = await indexes(store)
    price = {"must": [{"key": "metadata.price", "range": {"gt": 3}}]}
    for _ in range(2):
        for filter in (*(where(f"metadata.no{n}", "v") for n in range(60)), price, where('metadata."a b"[].c', 1)):
            assert await found(store, query("text", filter=filter)) == []
        assert (await ask(store, query("text", facets=("metadata.nobody",)))).facets["metadata.nobody"] == {}
        assert await indexes(store) == before
    metadata = {"no1": "v", "price": 4, "nobody": 1, "a b": [{"c": 1}]}
    await store.write(SCOPE, SPACE, [document("new", "text", metadata=metadata)])  # type: ignore[arg-type]
    for filter in (where("metadata.no1", "v"), price, where('metadata."a b"[].c', 1)):
        assert await found(store, query("text", filter=filter)) == ["new"]
    assert (await ask(store, query("text", facets=("metadata.nobody",)))).facets["metadata.nobody"] == {"1": 1}
    added = {"facets.no1", "metadata.price", "facets.nobody", 'facets."a b"[].c'}
    assert await indexes(store) == before | added
