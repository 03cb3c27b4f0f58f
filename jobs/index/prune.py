"""Deletes what a source no longer has: after a run, a collection is exactly its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from jobs.pipeline.inputs import Input, read_input
from jobs.pipeline.ledger import Report, RunLedger
from jobs.runtime.patience import patiently
from jobs.runtime.slices import slices
from serve_app.deployments.store import connect_store
from serve_app.documents.readers.result import ReadFailure
from serve_app.documents.reading_process import ReadingProcess
from serve_app.errors import Conflict
from serve_app.settings import Settings
from serve_app.types import Scope

PAGE_DOCUMENTS = 1_000
ASKED_DOCUMENTS = 512


async def prune(
    settings: Settings, scope: Scope, ledger: RunLedger, add: Callable[[Report], object], *, dry_run: bool
) -> None:
    """ledger: of a run that has been through all inputs. Repeating it does the rest, wherever it was cut off. In a dry
    run it only counts. Raises StoreUnavailable."""
    store = connect_store(settings)
    try:
        cursor: str | None = None
        while True:
            page = await patiently(partial(store.listing, scope, limit=PAGE_DOCUMENTS, cursor=cursor))
            ids = [document.id for document in page.documents]
            absent = ledger.absent(ids)
            if absent and not dry_run:
                await patiently(partial(store.delete_documents, scope, absent))
            add(Report(deleted=len(absent)))
            if (cursor := page.cursor) is None:
                return
    finally:
        await store.close()


async def require_its_own(settings: Settings, scope: Scope, inputs: Sequence[Input]) -> None:
    """Before anything is written: refused afterwards, the same command would pass when it is run again, by what it had
    written itself. Reads on until the source has a document of the collection, so all of it only where that is
    another's. Raises Conflict, StoreUnavailable."""
    reader = ReadingProcess()
    store = connect_store(settings)
    try:
        for ids in slices(ids_of(inputs, reader), ASKED_DOCUMENTS):
            stored = await patiently(partial(store.fingerprints, scope, ids))
            if stored or "" in ids:
                return
    finally:
        await store.close()
        reader.close()
    raise Conflict(
        "nothing was indexed or deleted: the source has none of the documents of the collection. Is it another folder, "
        "or one that is not mounted? A document's id begins at the source's root. To begin anew, delete the collection"
    )


def ids_of(inputs: Sequence[Input], reader: ReadingProcess) -> Iterator[str]:
    """Of their documents; "" for a failure that does not tell. Files that are one document each come first: they need
    not be read."""
    yield from (id for each in inputs if (id := each.only_document))
    for each in inputs:
        if not each.only_document:
            for result in read_input(each, reader):
                yield result.document_id if isinstance(result, ReadFailure) else result.id


def require_prunable(total: Report) -> None:
    """total: of the run before. Raises Conflict where it would delete what the source may well have."""
    if total.unnamed:
        raise Conflict(
            f"nothing was deleted: {total.unnamed} failures do not tell which documents they are of, which would be "
            "taken for gone. Mend them (see the dead letters) and run it again; all else is indexed"
        )
