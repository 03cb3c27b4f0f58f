"""What to put and what to remove, in which order, so that a write which is cut off anywhere is healed by repeating it.

Each step is applied whole or not at all. What holds after every one of them:
- a document has a fingerprint only if all its passages are stored, and no other passage of it is;
- every stored passage has a number below its document's `passages`, so that nothing can be left behind unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serve_app.store.payload import Payload, document_payload, passage_payload
from serve_app.types import IndexedDocument, Scope, SparseVector, Vector, document_point_id, passage_point_id


@dataclass(frozen=True, slots=True, eq=False)
class StoredPoint:
    """A point as both stores know it; a document's record has no vectors."""

    id: str
    payload: Payload
    dense: Vector | None = None
    sparse: SparseVector | None = None


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
    scope: Scope, documents: Sequence[IndexedDocument], stored: Mapping[str, int], max_points: int
) -> Iterator[Step]:
    """Steps of at most `max_points` points. documents: ids unique; stored: `passages` of each that has a record.

    A small document that does not shrink is put in one step together with others; the rest takes the long way:
    its record without fingerprint, its passages, what is stale, its record with fingerprint.
    """
    together: list[StoredPoint] = []
    for indexed in documents:
        before, now = stored.get(indexed.document.id, 0), len(indexed.passages)
        passages = [_passage(scope, indexed, number) for number in range(now)]
        record = _record(scope, indexed, now, indexed.fingerprint)
        if before > now or now >= max_points:
            yield Put((_record(scope, indexed, max(before, now), None),))
            yield from (Put(part) for part in parts(passages, max_points))
            stale = [passage_point_id(scope, indexed.document.id, number) for number in range(now, before)]
            yield from (Remove(part) for part in parts(stale, max_points))
            yield Put((record,))
            continue
        if len(together) + now + 1 > max_points:
            yield Put(tuple(together))
            together = []
        together += [*passages, record]
    if together:
        yield Put(tuple(together))


def plan_removal(scope: Scope, stored: Mapping[str, int], max_points: int) -> Iterator[Remove]:
    """Each document's record and passages go in one step; steps beyond `max_points` only for a single document.
    stored: document id → `passages` of its record."""
    together: list[str] = []
    for document_id, passages in stored.items():
        if together and len(together) + passages + 1 > max_points:
            yield Remove(tuple(together))
            together = []
        together.append(document_point_id(scope, document_id))
        together += (passage_point_id(scope, document_id, number) for number in range(passages))
    if together:
        yield Remove(tuple(together))


def _passage(scope: Scope, indexed: IndexedDocument, number: int) -> StoredPoint:
    item = indexed.passages[number]
    id = passage_point_id(scope, indexed.document.id, number)
    return StoredPoint(id, passage_payload(indexed.document, item.passage), item.dense, item.sparse)


def _record(scope: Scope, indexed: IndexedDocument, passages: int, fingerprint: str | None) -> StoredPoint:
    payload = document_payload(indexed.document, passages, fingerprint)
    return StoredPoint(document_point_id(scope, indexed.document.id), payload)


def parts(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    return (tuple(items[at : at + size]) for at in range(0, len(items), size))
