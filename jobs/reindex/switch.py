"""The end of a reindexing: the new index takes the old one's place, and those that do not answer are dropped."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from jobs.reindex.build import COPIER_DOCUMENTS, Session, Work, apply, copy_few
from jobs.reindex.plan import (
    AnotherAnswers,
    Change,
    Versions,
    next_change,
    require_change,
    require_counts,
    versions_of,
)
from serve_app.errors import Conflict, NotFound, StoreUnavailable, Unavailable
from serve_app.types import Scope

MAX_HOLDS = 10
HOLD_SHARE = 0.8  # of the time that a call of the store may take: who is held back sees no error
PAUSE_S = 1.0  # after a hold that was too short, or that another one has


def take_over(work: Work, copied: Versions) -> None:
    """The new index answers. copied: see `build`. Raises VerificationFailed, AnotherAnswers, and Unavailable if writes
    cannot be held back for as long as what came last takes.

    While they are, the old index is listed only if it was written to since the last listing, and of the new one only
    that is looked at which has changed: nobody else writes to it."""
    session, store, new = work.session, work.session.store, work.plan.scope
    lease_s = HOLD_SHARE * work.plan.settings.store.timeout_s
    reason = ""
    for _ in range(MAX_HOLDS):
        version = session.ask(partial(store.version, work.source.at("")))
        copied, _change = catch_up(work, copied)
        require_as_old(work, copied)
        if not is_still(work, version):
            copy_few(work, {})  # so that it has started
        try:
            held = session.ask(partial(store.hold, new, lease_s))
        except Conflict as error:  # another one has it
            reason = str(error)
            time.sleep(PAUSE_S)
            continue
        began_s = time.monotonic()
        with released_on_failure(work, held):
            require_source_answers(work)
            if not is_still(work, version) or None in copied.values():
                copied = last_round(work, copied)
        try:
            session.ask(partial(store.switch, new, held))
            return
        except Conflict:  # the hold was too short
            reason = too_short(time.monotonic() - began_s, lease_s, len(copied))
            time.sleep(PAUSE_S)
    raise Unavailable(f"no switch in {MAX_HOLDS} tries, and the old index goes on answering: {reason}")


def too_short(took_s: float, lease_s: float, documents: int) -> str:
    return (
        f"to list {documents} documents and to copy what was written last took {took_s:.1f} s, and writes are held "
        f"back for {lease_s:g} s at most. Give this job a greater AIDOCS_STORE__TIMEOUT_S, of which that is "
        f"{HOLD_SHARE:.0%} (and the service, or it refuses uploads that wait for longer), or try again when the store "
        "has less to do"
    )


@contextmanager
def released_on_failure(work: Work, held: str) -> Iterator[None]:
    """Writes go on at once then; if the store cannot be told, when the hold ends by itself."""
    try:
        yield
    except BaseException:
        with suppress(StoreUnavailable):
            work.session.ask_once(partial(work.session.store.release, work.plan.scope, held))
        raise


def is_still(work: Work, version: bytes | None) -> bool:
    """Whether nobody has written to the old index since; False if the store cannot tell."""
    store = work.session.store
    return version is not None and version == work.session.ask(partial(store.version, work.source.at("")))


def require_source_answers(work: Work) -> None:
    """Raises AnotherAnswers. While writes are held back nobody else can switch, so that it stays true."""
    answering = work.session.ask(partial(work.session.store.answering, work.source.at("")))
    if answering.scope != work.source:
        raise AnotherAnswers(
            f"index {answering.scope.index} answers since, and not {work.source.index}, which this one was made of: "
            "another reindexing or rollback was faster. Nothing is changed; the same command makes it of that one"
        )


def catch_up(work: Work, copied: Versions, *, copier_takes: float = COPIER_DOCUMENTS) -> tuple[Versions, Change]:
    """The new index is brought up to the old one as that was when this began: what it has then, and what was done."""
    old = versions_of(work.session.stored(work.source))
    change = next_change(copied, old)
    return apply(work, change, old, copier_takes=copier_takes), change


def require_as_old(work: Work, copied: Versions) -> None:
    """All of the new index is looked at. Raises VerificationFailed."""
    counted = work.session.ask(partial(work.session.store.count, work.plan.scope))
    require_counts(copied, work.session.stored(work.plan.scope), counted.passages)


def last_round(work: Work, copied: Versions) -> Versions:
    """While writes wait for it. Raises VerificationFailed if what it did cannot be found."""
    copied, change = catch_up(work, copied, copier_takes=math.inf)
    if change:
        ids = [*change.copied, *change.deleted]
        stored = work.session.ask(partial(work.session.store.fingerprints, work.plan.scope, ids))
        require_change(change, copied, stored, lambda id: has(work, id))
    return copied


def has(work: Work, id: str) -> bool:
    """Whether the old index has the document, be it that its last write was cut off."""
    try:
        work.session.ask(partial(work.session.store.document, work.source, id))
    except NotFound:
        return False
    return True


def drop_others(session: Session, scope: Scope) -> list[str]:
    """Names of the indexes that did not answer, which are gone. Raises Conflict if writes are held back or another one
    answers since: a reindexing is about to switch, or has."""
    indexes = session.ask(partial(session.store.indexes, scope))
    others = [each.scope for each in indexes if not each.answers]
    for each in others:
        try:
            with suppress(NotFound):  # somebody else has dropped it, or this call whose answer was lost
                session.ask(partial(session.store.drop, each))
        except Conflict as error:
            answering = next(each.scope.index for each in indexes if each.answers)
            raise Conflict(
                f"index {answering} answered, and {each.index} could not be dropped: {error}. When no other reindexing "
                "runs, look with --list and try --drop-old again, alone"
            ) from error
    return [each.index for each in others]
