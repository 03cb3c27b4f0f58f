"""The decisions of a reindexing: after the last round, while writes are held back, both indexes are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.reindex.build import plan_of
from jobs.reindex.plan import (
    Change,
    as_copied,
    first_change,
    index_to_return_to,
    next_change,
    require_change,
    require_counts,
)
from serve_app.embedding.models import resolve_model
from serve_app.errors import InvalidInput, VerificationFailed
from serve_app.settings import Settings
from serve_app.types import FIRST_INDEX, IndexInfo, Recipe, StoredVersion
from tests.contracts.corpus import SCOPE, SPACE

# A text has one fingerprint, so a document that changes and changes back has the one that it had. A write is begun and
# ended; cut off, it is only begun.
IDS = st.sampled_from("abcd")
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["begin", "write"]), IDS, st.sampled_from("xyz")),
    st.tuples(st.just("delete"), IDS, st.just("")),
    st.just(("", "", "")),
)


class Indexes:
    """The old one, by id its text and whether it is complete; the new one, by id its text. At each step of a
    reindexing somebody else's operations may come between."""

    def __init__(self, operations: Iterator[list[tuple[str, str, str]]]) -> None:
        self.old: dict[str, tuple[str, bool]] = {}
        self.new: dict[str, str] = {}
        self.is_held = False
        self._operations = operations

    def others(self) -> None:
        for kind, id, text in [] if self.is_held else next(self._operations):
            if kind == "delete":
                self.old.pop(id, None)
            elif kind:
                self.old[id] = text, kind == "write"

    def listed(self) -> dict[str, str | None]:
        """Document after document, as pages are; one that comes or goes meanwhile may be in it or not."""
        found: dict[str, str | None] = {}
        for id in "abcd":
            self.others()
            if id in self.old:
                text, is_complete = self.old[id]
                found[id] = text if is_complete else None
        return found

    def apply(self, change: Change, asked: dict[str, str | None]) -> dict[str, str | None]:
        moved = []
        for id in change.deleted:
            self.others()
            self.new.pop(id, None)
        for id in change.copied:
            self.others()
            text, is_complete = self.old.get(id, ("", False))
            if not is_complete or asked[id] != text:
                moved.append(id)
            if id in self.old:
                self.others()  # between its reading and its writing
                self.new[id] = text
        return dict(as_copied(asked, moved))


def reindex(indexes: Indexes, rounds: int, killed: Callable[[int], bool] = lambda _: False) -> None:
    old = indexes.listed()
    copied = indexes.apply(first_change(old, indexes.new), old)
    for number in range(rounds):
        if killed(number):
            return
        old = indexes.listed()
        copied = indexes.apply(next_change(copied, old), old)
    indexes.is_held = True
    old = indexes.listed()
    indexes.apply(next_change(copied, old), old)


@given(st.lists(st.lists(OPERATIONS, max_size=3), max_size=60), st.integers(0, 3))
def test_whatever_is_written_meanwhile_nothing_is_missing(
    operations: list[list[tuple[str, str, str]]], rounds: int
) -> None:
    indexes = Indexes(chain(operations, repeat([])))
    reindex(indexes, rounds)
    assert indexes.new == {id: text for id, (text, _) in indexes.old.items()}


@given(st.lists(st.lists(OPERATIONS, max_size=3), max_size=60), st.integers(1, 3), st.integers(0, 2))
def test_a_run_after_one_that_was_killed(
    operations: list[list[tuple[str, str, str]]], rounds: int, at_round: int
) -> None:
    indexes = Indexes(chain(operations, repeat([])))
    reindex(indexes, rounds, killed=lambda number: number == at_round % rounds)
    indexes.is_held = False
    reindex(indexes, rounds)
    assert indexes.new == {id: text for id, (text, _) in indexes.old.items()}


def test_a_round_without_news_does_nothing() -> None:
    assert not next_change({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    assert len(Change(("a",), ("b", "c"))) == 3


@pytest.mark.parametrize(
    ("new", "passages", "message"),
    [
        ([("a", "1", 2)], 2, "1 documents are not in the new index, for example 'b'"),
        ([("a", "1", 2), ("b", "1", 1), ("c", "1", 1)], 4, "1 documents are in the new index only, for example 'c'"),
        ([("a", "1", 2), ("b", None, 1)], 3, "1 documents of the new index are not complete, for example 'b'"),
        ([("a", "1", 2), ("b", "1", 1)], 4, "has 4 passages, but its documents list 3"),
    ],
)
def test_an_index_that_is_not_as_it_should_be(
    new: list[tuple[str, str | None, int]], passages: int, message: str
) -> None:
    old = {"a": "old", "b": "old"}
    with pytest.raises(VerificationFailed, match=message):
        require_counts(old, [StoredVersion(*one) for one in new], passages)
    require_counts(old, [StoredVersion("a", "x", 2), StoredVersion("b", "y", 1)], 3)


def test_what_moved_may_be_gone_before_the_switch() -> None:
    require_counts({"a": "old", "b": None}, [StoredVersion("a", "x", 2)], 2)


def test_the_last_round_is_looked_at() -> None:
    change = Change(("a", "moved"), ("gone",))
    copied = {"a": "1", "moved": None, "other": "1"}
    require_change(change, copied, {"a"}, lambda id: False)
    require_change(change, copied, {"a", "moved"}, lambda id: True)
    for stored, is_there, message in (
        ({"moved"}, False, "1 documents are not in the new index, for example 'a'"),
        ({"a"}, True, "1 documents are not in the new index, for example 'moved'"),
        ({"a", "moved", "gone"}, True, "1 documents are in the new index only, for example 'gone'"),
    ):
        with pytest.raises(VerificationFailed, match=message):
            require_change(change, copied, stored, lambda id, is_there=is_there: is_there)  # type: ignore[misc]


def test_vectors_are_reused_only_where_no_precision_is_promised(model_data_dir: Path) -> None:
    settings = Settings(data_dir=model_data_dir)
    space = resolve_model(settings.embedding, settings.data_dir).space

    def reuses(old: str | None, new: str | None) -> bool:
        active = IndexInfo(SCOPE.at("old"), Recipe(space, precision=old), True)
        return plan_of(active, Recipe(space, 64, precision=new), "new", settings).reuses

    assert reuses(None, None)
    assert not any(reuses(old, new) for old, new in ((None, "fp32"), ("fp32", "fp32"), ("int8", "fp32")))


def test_the_index_to_return_to() -> None:
    def info(name: str, is_active: bool) -> IndexInfo:
        return IndexInfo(SCOPE.at(name), Recipe(SPACE), is_active)

    now, first, begun = info("now", True), info(FIRST_INDEX, False), info("begun", False)
    assert index_to_return_to([now, first], None) == first
    assert index_to_return_to([now, first, begun], "begun") == begun
    for others in ([], [begun], [first, begun]):  # nobody can tell whether it ever answered
        with pytest.raises(InvalidInput, match=", ".join(each.scope.index for each in others) or "none"):
            index_to_return_to([now, *others], None)
    for name in ("now", "other"):
        with pytest.raises(InvalidInput, match="there are: first, begun"):
            index_to_return_to([now, first, begun], name)
