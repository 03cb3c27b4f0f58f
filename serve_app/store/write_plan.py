"""Plans the steps of a write or removal so that, after an interruption at any point, repeating the call completes it.

Each step is applied completely or not at all. After every step,
- a document has a fingerprint only if exactly the passages of its current version are stored;
- every stored passage has a number below its document's `passages`, so a later write or removal finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serve_app.store.points import StoredPoint, is_same, passage_points, record_point
from serve_app.types import IndexedDocument, Scope, document_point_id, passage_point_id


@dataclass(frozen=True, slots=True)
class Put:
    points: tuple[StoredPoint, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(point.id for point in self.points)


@dataclass(frozen=True, slots=True)
class Remove:
    ids: tuple[str, ...]


Step = Put | Remove
T = TypeVar("T")


def plan_write(
    scope: Scope,
    documents: Sequence[IndexedDocument],
    stored: Mapping[str, int],
    max_points: int,
    present: Mapping[str, StoredPoint],
) -> Iterator[Step]:
    """Steps of at most `max_points` points. documents: with unique ids. stored: document id → `passages` of its record,
    for each document that has one. present: stored points by id; a point that is the same is not written again.

    Small documents are written together in one step. A document that is large or has fewer passages than before takes
    several steps: its record without fingerprint, its passages, removal of stale passages, its record with fingerprint.
    """
    together: list[StoredPoint] = []
    for indexed in documents:
        before, now = stored.get(indexed.document.id, 0), len(indexed.passages)
        passages = [point for point in passage_points(scope, indexed) if not is_same(point, present.get(point.id))]
        record = record_point(scope, indexed, now, indexed.fingerprint)
        if before > now or len(passages) >= max_points:
            yield Put((record_point(scope, indexed, max(before, now), None),))
            yield from (Put(part) for part in parts(passages, max_points))
            stale = [passage_point_id(scope, indexed.document.id, number) for number in range(now, before)]
            yield from (Remove(part) for part in parts(stale, max_points))
            yield Put((record,))
            continue
        if len(together) + len(passages) + 1 > max_points:
            yield Put(tuple(together))
            together = []
        together += [*passages, record]
    if together:
        yield Put(tuple(together))


def plan_removal(scope: Scope, stored: Mapping[str, int], max_points: int) -> Iterator[Remove]:
    """Steps that remove documents, each with its record and passages in the same step. Only a step for a single
    document may have more than `max_points` points. stored: document id → `passages` of its record."""
    together: list[str] = []
    for document_id, passages in stored.items():
        if together and len(together) + passages + 1 > max_points:
            yield Remove(tuple(together))
            together = []
        together.append(document_point_id(scope, document_id))
        together += (passage_point_id(scope, document_id, number) for number in range(passages))
    if together:
        yield Remove(tuple(together))


def parts(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    return (tuple(items[at : at + size]) for at in range(0, len(items), size))
