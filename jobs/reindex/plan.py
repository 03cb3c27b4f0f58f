"""The decisions of a reindexing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidInput, VerificationFailed
from serve_app.types import FIRST_INDEX, IndexInfo, StoredVersion

Versions = Mapping[str, str | None]  # fingerprint of each document; None of one that is being written


@dataclass(frozen=True, slots=True)
class Change:
    """What to copy to and delete from the new index, so that it equals the old one as that was listed."""

    copied: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.copied) + len(self.deleted)


def versions_of(documents: Iterable[StoredVersion]) -> dict[str, str | None]:
    return {one.document_id: one.fingerprint for one in documents}


def first_change(old: Versions, new: Iterable[str]) -> Change:
    """Copy all of the old index (the copier skips what is there already), and delete what only an earlier run had."""
    return Change(tuple(old), tuple(id for id in new if id not in old))


def as_copied(asked: Versions, moved: Iterable[str]) -> Versions:
    """The versions that the new index has after a round. moved: documents whose version had changed when they were
    copied. Without them, a document that changes and changes back would count as copied."""
    return {**asked, **dict.fromkeys(moved)}


def next_change(copied: Versions, now: Versions) -> Change:
    """From what was copied to the old index as it is now. A document without a version was being written, or moved."""
    changed = (id for id, version in now.items() if version is None or copied.get(id) != version)
    return Change(tuple(changed), tuple(id for id in copied if id not in now))


def require_counts(old: Versions, new: Sequence[StoredVersion], passages: int) -> None:
    """old: what was copied; a document without a version may be gone by now. passages: how many the store counts in the
    new index. Raises VerificationFailed, which says what is wrong."""
    stored = versions_of(new)
    if missing := [id for id, version in old.items() if version is not None and id not in stored]:
        raise VerificationFailed(f"{len(missing)} documents are not in the new index, {missing[0]!r} for one")
    if left := [id for id in stored if id not in old]:
        raise VerificationFailed(f"{len(left)} documents are in the new index only, {left[0]!r} for one")
    if torn := [id for id, version in stored.items() if version is None]:
        raise VerificationFailed(f"{len(torn)} documents of the new index are not complete, {torn[0]!r} for one")
    if passages != (expected := sum(one.passages for one in new)):
        raise VerificationFailed(f"the new index has {passages} passages, its documents say {expected}")


def require_change(change: Change, copied: Versions, stored: Container[str], is_there: Callable[[str], bool]) -> None:
    """Check the last round. stored: ids of complete documents in the new index. is_there: whether the old index has a
    document; called for those that had moved when they were copied. Raises VerificationFailed."""
    absent = [id for id in change.copied if id not in stored]
    if missing := [id for id in absent if copied[id] is not None or is_there(id)]:
        raise VerificationFailed(f"{len(missing)} documents are not in the new index, {missing[0]!r} for one")
    if left := [id for id in change.deleted if id in stored]:
        raise VerificationFailed(f"{len(left)} documents are in the new index only, {left[0]!r} for one")


def index_to_return_to(indexes: Iterable[IndexInfo], name: str | None) -> IndexInfo:
    """The inactive index of this name. name: None for the first index, if it is the only inactive one: nobody can tell
    whether another one was ever active or is only half built. Raises InvalidInput."""
    others = {each.scope.index: each for each in indexes if not each.is_active}
    names = ", ".join(others) or "none"
    if name is None and list(others) == [FIRST_INDEX]:
        name = FIRST_INDEX
    if name is None:
        raise InvalidInput(
            f"say with --index NAME which one was active before; beside the active one there are: {names}"
        )
    if name not in others:
        raise InvalidInput(f"no index {name!r} beside the active one; there are: {names}")
    return others[name]
