"""Decides what a reindexing copies, deletes and checks. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidInput, VerificationFailed
from serve_app.types import FIRST_INDEX, IndexInfo, StoredVersion

Versions = Mapping[str, str | None]  # document id → fingerprint; None while the document is being written


@dataclass(frozen=True, slots=True)
class Change:
    """What to copy to and delete from the new index, so that it equals the listed state of the old one."""

    copied: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.copied) + len(self.deleted)


def versions_of(documents: Iterable[StoredVersion]) -> dict[str, str | None]:
    return {one.document_id: one.fingerprint for one in documents}


def first_change(old: Versions, new: Iterable[str]) -> Change:
    """Copy all of the old index (the copier skips copied documents), and delete what only the new index has."""
    return Change(tuple(old), tuple(id for id in new if id not in old))


def as_copied(asked: Versions, moved: Iterable[str]) -> Versions:
    """The versions that the new index has after a round. moved: documents whose version had changed by the time they
    were copied. Their version counts as unknown; otherwise a document that changes and changes back would count as
    copied."""
    return {**asked, **dict.fromkeys(moved)}


def next_change(copied: Versions, now: Versions) -> Change:
    """The difference between the copied versions and the old index now. A document without a version was being written
    or had moved, and is copied again."""
    changed = (id for id, version in now.items() if version is None or copied.get(id) != version)
    return Change(tuple(changed), tuple(id for id in copied if id not in now))


def require_counts(old: Versions, new: Sequence[StoredVersion], passages: int) -> None:
    """Check that the new index has exactly the copied documents. old: the copied versions; a document without a version
    may have been deleted since. passages: the store's count in the new index. Raises VerificationFailed."""
    stored = versions_of(new)
    if missing := [id for id, version in old.items() if version is not None and id not in stored]:
        raise VerificationFailed(f"{len(missing)} documents are not in the new index, for example {missing[0]!r}")
    if left := [id for id in stored if id not in old]:
        raise VerificationFailed(f"{len(left)} documents are in the new index only, for example {left[0]!r}")
    if torn := [id for id, version in stored.items() if version is None]:
        raise VerificationFailed(f"{len(torn)} documents of the new index are not complete, for example {torn[0]!r}")
    if passages != (expected := sum(one.passages for one in new)):
        raise VerificationFailed(f"the new index has {passages} passages, but its documents list {expected}")


def require_change(change: Change, copied: Versions, stored: Container[str], is_there: Callable[[str], bool]) -> None:
    """Check the last round. stored: ids of the complete documents in the new index. is_there: whether the old index has
    a document; called for documents that had moved when they were copied. Raises VerificationFailed."""
    absent = [id for id in change.copied if id not in stored]
    if missing := [id for id in absent if copied[id] is not None or is_there(id)]:
        raise VerificationFailed(f"{len(missing)} documents are not in the new index, for example {missing[0]!r}")
    if left := [id for id in change.deleted if id in stored]:
        raise VerificationFailed(f"{len(left)} documents are in the new index only, for example {left[0]!r}")


def index_to_return_to(indexes: Iterable[IndexInfo], name: str | None) -> IndexInfo:
    """The inactive index of this name. Without a name, the first index if it is the only inactive one; any other might
    be half built and never have been active. Raises InvalidInput."""
    others = {each.scope.index: each for each in indexes if not each.is_active}
    names = ", ".join(others) or "none"
    if name is None and list(others) == [FIRST_INDEX]:
        name = FIRST_INDEX
    if name is None:
        raise InvalidInput(f"choose the index to activate with --index NAME; there are: {names}")
    if name not in others:
        raise InvalidInput(f"no inactive index {name!r}; there are: {names}")
    return others[name]
