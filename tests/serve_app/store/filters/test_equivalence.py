"""A filter selects the same passages on Qdrant Edge, on the Qdrant client, and in a plain Python implementation.

An index whose type is not the value's changes results: with a keyword index `except` misses numbers, with an integer
index `range` misses fractions. So no store has an index on a metadata field; `title` has one here."""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import qdrant_edge as edge
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from serve_app.store.filters.parse import parse_filter, to_edge

VALUES: list[Any] = [
    *(None, [], 0, 1, 2, -3, 1.0, 1.5, True, False, "", "red", "Red wine", "red-wine, white", "1"),
    *(["red", "blue"], [1, 2, 3], [None], [None, 1], [[1], [2, 3]], ["red", 1, None], {"x": 1}, {"y": None}, [{}]),
    *([{"x": 1, "y": "red"}, {"x": 2, "y": "blue"}], [{"x": 1, "y": "blue"}], [{"x": [1, 2]}, 3], [{"y": None}]),
    *("2024-05-01", "2024-05-01T00:00:00Z", "2024-05-01T01:00:00+02:00", "2024-04-30T23:59:59.999999Z", "2024"),
]
STRINGS = [value for value in VALUES if isinstance(value, str)]
DRAW = random.Random(20_240_501)
PAYLOADS: list[dict[str, Any]] = [
    {"title": DRAW.choice(STRINGS), "metadata": {key: DRAW.choice(VALUES) for key in keys}}
    for keys in ["", *["b"] * 10, *["ab"] * 30]
] + [{"metadata": {"a": value}} for value in VALUES]

KEYS = st.sampled_from(["a", "b", "a[]", "a[].x", "a[0]", "b.y", "b[].y", "title", "nowhere"])
WORDS = st.sampled_from(["red", "Red wine", "WINE red", "white", "1", "blue", "win"])
NUMBERS = st.sampled_from([-3, 0, 1, 1.0, 1.5, 2, 3])
INSTANTS = st.sampled_from(["2024-05-01", "2024-04-30T23:00:00Z", "2024-05-01T00:00:00+02:00", "2024-05-02"])
BOUNDS = ("gt", "gte", "lt", "lte")


def bounds(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(BOUNDS), values, min_size=1, max_size=2)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=3)


MATCH = st.one_of(
    st.fixed_dictionaries({"value": st.one_of(WORDS, st.integers(-3, 3), st.booleans())}),
    st.fixed_dictionaries({"text": WORDS}),
    *(st.fixed_dictionaries({k: lists(v)}) for k in ("any", "except") for v in (WORDS, st.integers(-3, 3))),
)


def conditions(keys: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.fixed_dictionaries({"key": keys, "match": MATCH}),
        st.fixed_dictionaries({"key": keys, "range": st.one_of(bounds(NUMBERS), bounds(INSTANTS))}),
        st.fixed_dictionaries({"key": keys, "values_count": bounds(st.integers(0, 3))}),
        st.fixed_dictionaries({"is_empty": st.fixed_dictionaries({"key": keys})}),
        st.fixed_dictionaries({"is_null": st.fixed_dictionaries({"key": keys})}),
    )


def filters(condition: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    clause = st.lists(condition, min_size=1, max_size=3)
    at_least = clause.flatmap(
        lambda cs: st.fixed_dictionaries({"conditions": st.just(cs), "min_count": st.integers(1, len(cs))})
    )
    kinds: dict[str, Any] = {"must": clause, "should": clause, "must_not": clause, "min_should": at_least}
    return st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: kinds[name] for name in names})
    )


NESTED = st.fixed_dictionaries(
    {"key": st.sampled_from(["a", "b[]"]), "filter": filters(conditions(st.sampled_from(["x", "y"])))}
)
CONDITION = st.recursive(conditions(KEYS) | st.fixed_dictionaries({"nested": NESTED}), filters, max_leaves=4)


def holds(filter: dict[str, Any], value: Any) -> bool:
    """What a canonical filter means, for one payload (or for one element of a list, inside `nested`)."""
    at_least = filter.get("min_should", {"conditions": [], "min_count": 0})
    return (
        all(condition_holds(c, value) for c in filter.get("must", []))
        and ("should" not in filter or any(condition_holds(c, value) for c in filter["should"]))
        and not any(condition_holds(c, value) for c in filter.get("must_not", []))
        and sum(condition_holds(c, value) for c in at_least["conditions"]) >= at_least["min_count"]
    )


def condition_holds(c: dict[str, Any], value: Any) -> bool:
    match c:
        case {"key": key, "match": test}:
            truth = any(matches(test, found) for found in flat(at(value, key)))
        case {"key": key, "range": limits}:
            truth = any(within(limits, found) for found in flat(at(value, key)))
        case {"key": key, "values_count": limits}:
            truth = any(within(limits, count(found)) for found in at(value, key) or [None])
        case {"is_empty": {"key": key}}:
            truth = all(count(found) == 0 for found in at(value, key))
        case {"is_null": {"key": key}}:
            truth = any(found is None or (isinstance(found, list) and None in found) for found in at(value, key))
        case {"nested": {"key": key, "filter": inner}}:
            truth = any(holds(inner, item) for item in at(value, key) if isinstance(item, dict))
        case _:
            truth = holds(c, value)
    return truth


def at(value: Any, path: str) -> list[Any]:
    """All values at a path; `[]` fans out over a list."""
    found = [value]
    for step in re.findall(r"\[\d*\]|[^.\[\]]+", path):
        if step == "[]":
            found = [item for v in found if isinstance(v, list) for item in v]
        elif step[0] == "[":
            found = [v[int(step[1:-1])] for v in found if isinstance(v, list) and int(step[1:-1]) < len(v)]
        else:
            found = [v[step] for v in found if isinstance(v, dict) and step in v]
    return found


def flat(values: list[Any]) -> list[Any]:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def count(value: Any) -> int:
    return len(value) if isinstance(value, list) else int(value is not None)


def matches(test: dict[str, Any], value: Any) -> bool:
    match test:
        case {"value": wanted}:
            return type(wanted) is type(value) and wanted == value
        case {"text": text}:
            return isinstance(value, str) and words(text) <= words(value)
        case {"any": wanted}:
            return type(value) is type(wanted[0]) and value in wanted
    return value is not None and not matches({"any": test["except"]}, value)


def words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[^\W_]+", text)}


def within(limits: dict[str, Any], value: Any) -> bool:
    if isinstance(next(iter(limits.values())), str):
        instant = read_instant(value)
        return instant is not None and all(compare(n, instant, read_instant(limit)) for n, limit in limits.items())
    return type(value) in (int, float) and all(compare(n, value, limit) for n, limit in limits.items())


def compare(name: str, value: Any, limit: Any) -> bool:
    return bool({"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}[name](value, limit))


def read_instant(value: Any) -> datetime | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d.*", value):
        return None
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.EdgeShard]:
    config = edge.EdgeConfig(vectors={"v": edge.EdgeVectorParams(2, edge.Distance.Dot)})
    shard = edge.EdgeShard.create(str(tmp_path_factory.mktemp("shard")), config)
    shard.update(edge.UpdateOperation.create_field_index("title", edge.PayloadSchemaType.Keyword))
    points = [edge.Point(n, {"v": [1.0, 0.0]}, payload) for n, payload in enumerate(PAYLOADS)]
    shard.update(edge.UpdateOperation.upsert_points(points))
    yield shard
    shard.close()


@pytest.fixture(scope="module")
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    client.create_collection("c", {"v": models.VectorParams(size=2, distance=models.Distance.DOT)})
    points = [models.PointStruct(id=n, vector={"v": [1.0, 0.0]}, payload=p) for n, p in enumerate(PAYLOADS)]
    client.upsert("c", points)
    yield client
    client.close()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(filters(CONDITION))
def test_both_stores_select_what_the_filter_means(
    shard: edge.EdgeShard, client: QdrantClient, raw: dict[str, Any]
) -> None:
    canonical = parse_filter(raw, max_depth=8, max_conditions=1_000)
    assert parse_filter(canonical, max_depth=8, max_conditions=1_000) == canonical
    meant = [n for n, payload in enumerate(PAYLOADS) if holds(dict(canonical), payload)]
    records, _ = shard.scroll(edge.ScrollRequest(limit=len(PAYLOADS), filter=to_edge(canonical)))
    assert sorted(record.id for record in records) == meant
    selection = models.Filter.model_validate(canonical)
    points, _ = client.scroll("c", scroll_filter=selection, limit=len(PAYLOADS))
    assert sorted(point.id for point in points) == meant
