"""Repeating a write completes it after an interruption at any step. The store here is a dictionary of points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.store.payload import DOCUMENT, KIND, PASSAGE, Payload
from serve_app.store.points import is_same, passage_points
from serve_app.store.write_plan import Put, Remove, Step, plan_removal, plan_write
from serve_app.types import (
    Document,
    IndexedDocument,
    IndexedPassage,
    Passage,
    Scope,
    SparseVector,
    document_point_id,
)

SCOPE = Scope("t", "c")
SPARSE = SparseVector(np.array([1], np.uint32), np.array([1], np.float32))
Points = dict[str, Payload]

sizes = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)  # document → passages
limits = st.integers(1, 6)


def documents(passages: dict[str, int], version: int) -> list[IndexedDocument]:
    vector = np.ones(2, np.float32)
    return [
        IndexedDocument(
            Document(id, f"{version}"),
            f"{version}",
            tuple(IndexedPassage(Passage(n, f"{version}"), vector, SPARSE) for n in range(count)),
        )
        for id, count in passages.items()
    ]


def apply(points: Points, steps: Iterable[Step]) -> None:
    for step in steps:
        for id in step.ids:
            points.pop(id, None)
        if isinstance(step, Put):
            points.update({point.id: point.payload for point in step.points})


def records(points: Points) -> dict[str, Payload]:
    return {p["document_id"]: p for p in points.values() if p[KIND] == DOCUMENT}


def stored_passages(points: Points, ids: Iterable[str]) -> dict[str, int]:
    return {id: record["passages"] for id, record in records(points).items() if id in ids}


def numbers(points: Points, id: str) -> dict[int, str]:
    return {p["number"]: p["text"] for p in points.values() if p[KIND] == PASSAGE and p["document_id"] == id}


def require_invariants(points: Points) -> None:
    for id, record in records(points).items():
        if "fingerprint" in record:
            assert numbers(points, id) == dict.fromkeys(range(record["passages"]), record["fingerprint"])
        assert all(number < record["passages"] for number in numbers(points, id))
    assert {p["document_id"] for p in points.values()} == set(records(points))


def plan(points: Points, passages: dict[str, int], version: int, limit: int) -> list[Step]:
    return list(plan_write(SCOPE, documents(passages, version), stored_passages(points, passages), limit, {}))


@given(sizes, sizes, st.integers(0, 40), limits)
def test_a_write_cut_off_anywhere_is_healed_by_repeating_it(
    old: dict[str, int], new: dict[str, int], cut: int, limit: int
) -> None:
    points: Points = {}
    apply(points, plan(points, old, 1, limit))
    for step in plan(points, new, 2, limit)[:cut]:
        apply(points, [step])
        require_invariants(points)
    apply(points, plan(points, new, 2, limit))
    require_invariants(points)
    assert {id: record["fingerprint"] for id, record in records(points).items()} == (
        dict.fromkeys(old, "1") | dict.fromkeys(new, "2")
    )
    assert {id: record["passages"] for id, record in records(points).items()} == old | new


@given(sizes, sizes, st.integers(0, 40), st.integers(0, 40), limits)
def test_a_removal_leaves_nothing_even_of_a_half_written_document(
    old: dict[str, int], new: dict[str, int], written: int, removed: int, limit: int
) -> None:
    points: Points = {}
    apply(points, plan(points, old, 1, limit))
    apply(points, plan(points, new, 2, limit)[:written])
    everything = stored_passages(points, {*old, *new})
    for step in list(plan_removal(SCOPE, everything, limit))[:removed]:
        apply(points, [step])
        require_invariants(points)
    apply(points, plan_removal(SCOPE, stored_passages(points, {*old, *new}), limit))
    assert points == {}


@given(sizes, limits)
def test_steps_are_bounded(passages: dict[str, int], limit: int) -> None:
    points: Points = {}
    steps = plan(points, passages, 1, limit)
    assert all(0 < len(step.ids) <= limit for step in steps)


def test_new_small_documents_take_one_step() -> None:
    [step] = plan({}, {"a": 2, "b": 0, "c": 3}, 1, 100)
    assert len(step.ids) == 8


def test_a_removal_is_one_step_for_a_document() -> None:
    [step] = plan_removal(SCOPE, {"a": 50}, 10)
    assert isinstance(step, Remove)
    assert len(step.ids) == 51
    assert step.ids[0] == document_point_id(SCOPE, "a")


def test_removals_of_several_documents_share_a_step_up_to_the_limit() -> None:
    stored = {"a": 4, "b": 4, "c": 4}  # 5 points each, with the record
    assert [len(step.ids) for step in plan_removal(SCOPE, stored, 10)] == [10, 5]
    assert [len(step.ids) for step in plan_removal(SCOPE, stored, 9)] == [5, 5, 5]


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 9), limits)
def test_only_passages_that_differ_are_put_again(is_changed: list[bool], before: int, limit: int) -> None:
    [old] = documents({"a": before}, 1)
    [new] = documents({"a": len(is_changed)}, 1)
    items = [
        replace(item, passage=replace(item.passage, text="new")) if changed else item
        for item, changed in zip(new.passages, is_changed, strict=True)
    ]
    stored = {point.id: point for point in passage_points(SCOPE, old)}
    steps = plan_write(SCOPE, [replace(new, passages=tuple(items))], {"a": before}, limit, stored)
    put = [point.payload["number"] for step in steps if isinstance(step, Put) for point in step.points if point.sparse]
    assert put == [number for number, changed in enumerate(is_changed) if changed or number >= before]


@pytest.mark.parametrize(
    "change",
    [
        {"passage": Passage(0, "text", ("A heading",))},
        {"dense": np.asarray([0.6, 0.80001], np.float32)},
        {"sparse": SparseVector(np.array([2, 1], np.uint32), np.array([1, 1], np.float32))},
        {"sparse": SparseVector(np.array([], np.uint32), np.array([], np.float32))},
        {"digest": "another"},
    ],
)
def test_what_makes_a_passage_another(change: dict[str, Any]) -> None:
    terms = SparseVector(np.array([2, 1], np.uint32), np.array([1, 3], np.float32))
    item = IndexedPassage(Passage(0, "text"), np.asarray([0.6, 0.8], np.float32), terms, "digest")
    in_store = SparseVector(terms.indices[::-1], terms.values[::-1])  # in the order of its indices
    whole = IndexedDocument(Document("a", "text"), "print", (item,))
    [point] = passage_points(SCOPE, whole)
    [stored] = passage_points(SCOPE, replace(whole, passages=(replace(item, sparse=in_store),)))
    [changed] = passage_points(SCOPE, replace(whole, passages=(replace(item, **change),)))
    [titled] = passage_points(SCOPE, replace(whole, document=replace(whole.document, title="T")))
    assert is_same(point, stored)
    assert not is_same(changed, stored) and not is_same(titled, stored) and not is_same(point, None)
