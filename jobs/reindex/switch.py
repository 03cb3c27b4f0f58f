"""The end of a reindexing: activates the new index and drops inactive ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from jobs.reindex.build import COPIER_DOCUMENTS, Reindexing, Session, apply, copy_few
from jobs.reindex.plan import (
    Change,
    Versions,
    next_change,
    require_change,
    require_counts,
    versions_of,
)
from serve_app.errors import ActiveIndexChanged, Conflict, NotFound, StoreUnavailable, Unavailable
from serve_app.types import Scope

MAX_HOLDS = 10
HOLD_SHARE = 0.8  # of the timeout of a store call, so that held back writes do not time out
PAUSE_S = 1.0  # after a hold that was too short, or while another process holds writes back


def take_over(work: Reindexing, copied: Versions) -> None:
    """Make the new index active. copied: see `build`. Raises VerificationFailed, ActiveIndexChanged, and Unavailable if
    writes cannot be held back for as long as the last round takes.

    While writes are held back, the old index is listed only if it has changed since the last listing. In the new index
    only the changed documents are checked, because no other process writes to it."""
    session, store, new = work.session, work.session.store, work.plan.scope
    lease_s = HOLD_SHARE * work.plan.settings.store.timeout_s
    reason = ""
    for _ in range(MAX_HOLDS):
        version = session.ask(partial(store.version, work.source.at("")))
        copied, _change = catch_up(work, copied)
        require_as_old(work, copied)
        if not is_still(work, version):
            copy_few(work, {})  # starts the copier before writes are held back
        try:
            held = session.ask(partial(store.hold, new, lease_s))
        except Conflict as error:  # another process holds writes back
            reason = str(error)
            time.sleep(PAUSE_S)
            continue
        began_s = time.monotonic()
        with released_on_failure(work, held):
            require_source_active(work)
            if not is_still(work, version) or None in copied.values():
                copied = last_round(work, copied)
        try:
            session.ask(partial(store.switch, new, held))
            return
        except Conflict:  # the hold was too short
            reason = too_short(time.monotonic() - began_s, lease_s, len(copied))
            time.sleep(PAUSE_S)
    raise Unavailable(f"could not switch in {MAX_HOLDS} attempts, and the old index stays active: {reason}")


def too_short(took_s: float, lease_s: float, documents: int) -> str:
    return (
        f"listing {documents} documents and copying the last changes took {took_s:.1f} s, but writes are held back for "
        f"at most {lease_s:g} s, which is {HOLD_SHARE:.0%} of AIDOCS_STORE__TIMEOUT_S. Raise that setting for this job "
        "and for the service (or uploads that wait longer fail), or try again when the store is less busy"
    )


@contextmanager
def released_on_failure(work: Reindexing, held: str) -> Iterator[None]:
    """End the hold if the block fails, so that writes continue. If the store is unavailable, the hold expires."""
    try:
        yield
    except BaseException:
        with suppress(StoreUnavailable):
            work.session.ask_once(partial(work.session.store.release, work.plan.scope, held))
        raise


def is_still(work: Reindexing, version: bytes | None) -> bool:
    """Whether the old index is unchanged since that version; False if the store does not know."""
    store = work.session.store
    return version is not None and version == work.session.ask(partial(store.version, work.source.at("")))


def require_source_active(work: Reindexing) -> None:
    """Raises ActiveIndexChanged. No other process can switch while writes are held back, so the result stays valid."""
    active = work.session.ask(partial(work.session.store.active_index, work.source.at("")))
    if active.scope != work.source:
        raise ActiveIndexChanged(
            f"index {active.scope.index} is active now, and not {work.source.index}, which this run copied: another "
            "reindexing or rollback was faster. This run changed nothing; run the same command again"
        )


def catch_up(work: Reindexing, copied: Versions, *, copier_takes: float = COPIER_DOCUMENTS) -> tuple[Versions, Change]:
    """Apply the latest changes of the old index to the new one. Returns the new index's versions, and the changes."""
    old = versions_of(work.session.stored(work.source))
    change = next_change(copied, old)
    return apply(work, change, old, copier_takes=copier_takes), change


def require_as_old(work: Reindexing, copied: Versions) -> None:
    """Compare the whole new index with the copied versions. Raises VerificationFailed."""
    counted = work.session.ask(partial(work.session.store.count, work.plan.scope))
    require_counts(copied, work.session.stored(work.plan.scope), counted.passages)


def last_round(work: Reindexing, copied: Versions) -> Versions:
    """Copy the last changes while writes are held back. Raises VerificationFailed if they are not in the store then."""
    copied, change = catch_up(work, copied, copier_takes=math.inf)
    if change:
        ids = [*change.copied, *change.deleted]
        stored = work.session.ask(partial(work.session.store.fingerprints, work.plan.scope, ids))
        require_change(change, copied, stored, lambda id: has(work, id))
    return copied


def has(work: Reindexing, id: str) -> bool:
    """Whether the old index has the document, even if its last write was interrupted."""
    try:
        work.session.ask(partial(work.session.store.document, work.source, id))
    except NotFound:
        return False
    return True


def drop_others(session: Session, scope: Scope) -> list[str]:
    """Drop the inactive indexes and return their names. Raises Conflict if another reindexing holds writes back or has
    just switched."""
    indexes = session.ask(partial(session.store.indexes, scope))
    others = [each.scope for each in indexes if not each.is_active]
    for each in others:
        try:
            with suppress(NotFound):  # dropped by another process, or by an earlier attempt whose response was lost
                session.ask(partial(session.store.drop, each))
        except Conflict as error:
            active = next(each.scope.index for each in indexes if each.is_active)
            raise Conflict(
                f"index {active} was active, and {each.index} could not be dropped: {error}. When no other reindexing "
                "is running, check with --list, then run --drop-old again on its own"
            ) from error
    return [each.index for each in others]
