"""What a reindexing decides, from what it knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidInput, PlatformError
from serve_app.types import FIRST_INDEX, IndexInfo, StoredVersion

Versions = Mapping[str, str | None]  # fingerprint of each document; None of one that is being written


class VerificationFailed(PlatformError):
    """The new index is not what it should be; the old one goes on answering."""

    code, title = "verification-failed", "Verification failed"


class AnotherAnswers(PlatformError):
    """Another reindexing has let its index answer, which has writes that this one's does not."""

    code, title = "another-answers", "Another index answers"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done in the new index, so that it has what the old one had when that was looked at."""

    copied: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.copied) + len(self.deleted)


def versions_of(documents: Iterable[StoredVersion]) -> dict[str, str | None]:
    return {one.document_id: one.fingerprint for one in documents}


def first_change(old: Versions, new: Iterable[str]) -> Change:
    """All of the old index, of which the copying passes over what is there; and what an earlier run left."""
    return Change(tuple(old), tuple(id for id in new if id not in old))


def as_copied(asked: Versions, moved: Iterable[str]) -> Versions:
    """What is known of the new index after a round. moved: documents that were found in another version than was asked
    for; without them one that changes and changes back would pass for copied."""
    return {**asked, **dict.fromkeys(moved)}


def next_change(copied: Versions, now: Versions) -> Change:
    """From what was copied to the old index as it is now. What has no version was being written, or has moved."""
    changed = (id for id, version in now.items() if version is None or copied.get(id) != version)
    return Change(tuple(changed), tuple(id for id in copied if id not in now))


def require_counts(old: Versions, new: Sequence[StoredVersion], passages: int) -> None:
    """old: what was copied; of that what has no version may be gone since. passages: as the store counts them in the
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
    """After the last round. stored: those that are complete in the new index. is_there: whether the old one has a
    document, asked where it had moved when it was copied. Raises VerificationFailed."""
    absent = [id for id in change.copied if id not in stored]
    if missing := [id for id in absent if copied[id] is not None or is_there(id)]:
        raise VerificationFailed(f"{len(missing)} documents are not in the new index, {missing[0]!r} for one")
    if left := [id for id in change.deleted if id in stored]:
        raise VerificationFailed(f"{len(left)} documents are in the new index only, {left[0]!r} for one")


def index_to_return_to(indexes: Iterable[IndexInfo], name: str | None) -> IndexInfo:
    """Of those that do not answer the one of this name; None for the first index, where that is the only one: of each
    other it is not known whether it ever answered or was only begun. Raises InvalidInput."""
    others = {each.scope.index: each for each in indexes if not each.answers}
    names = ", ".join(others) or "none"
    if name is None and list(others) == [FIRST_INDEX]:
        name = FIRST_INDEX
    if name is None:
        raise InvalidInput(
            f"say with --index NAME which one answered before; beside the one that answers there are: {names}"
        )
    if name not in others:
        raise InvalidInput(f"no index {name!r} beside the one that answers; there are: {names}")
    return others[name]
