"""Reads of one index of the embedded store other than searches. They block, so call them in a reader thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge

from serve_app.errors import InvalidInput
from serve_app.store.edge.collection import Collection
from serve_app.store.edge.payload_indexes import edge_filter
from serve_app.store.edge.shard import from_record
from serve_app.store.payload import DOCUMENT, PASSAGE, RECORD_FIELDS, VERSION_FIELDS, to_version
from serve_app.store.points import StoredPoint, to_indexed
from serve_app.store.write_plan import parts
from serve_app.types import (
    CollectionInfo,
    IndexedDocument,
    InventoryPage,
    JsonObject,
    document_point_id,
    passage_point_id,
)

MAX_RETRIEVED = 256  # points in one call, which holds the GIL


def retrieve(collection: Collection, document_ids: Sequence[str], fields: Iterable[str]) -> list[dict[str, Any]]:
    """These fields of the documents' records. A document that does not exist is left out."""
    found: list[dict[str, Any]] = []
    for batch in parts(document_ids, MAX_RETRIEVED):
        ids: list[int | UUID | str] = [document_point_id(collection.scope, document_id) for document_id in batch]
        with collection.shard() as shard:
            found += [record.payload for record in shard.retrieve(ids, [*fields], False) if record.payload]
    return found


def indexed_documents(collection: Collection, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
    """The documents among these that are completely stored, by id."""
    found: dict[str, IndexedDocument] = {}
    for record in retrieve(collection, document_ids, RECORD_FIELDS):
        id = record["document_id"]
        ids = [passage_point_id(collection.scope, id, number) for number in range(record["passages"])]
        points: list[StoredPoint] = []
        for some in parts(ids, MAX_RETRIEVED):
            with collection.shard() as shard:
                points += map(from_record, shard.retrieve([*some], True, True))
        if (indexed := to_indexed(record, points)) is not None:
            found[id] = indexed
    now = fingerprints(collection, list(found))  # a document written meanwhile may mix two versions
    return {id: indexed for id, indexed in found.items() if now.get(id) == indexed.fingerprint}


def fingerprints(collection: Collection, document_ids: Sequence[str]) -> dict[str, str]:
    """Document id → fingerprint, for documents that are completely stored."""
    records = retrieve(collection, document_ids, ["document_id", "fingerprint"])
    return {record["document_id"]: record["fingerprint"] for record in records if "fingerprint" in record}


def inventory(collection: Collection, limit: int, cursor: str | None) -> InventoryPage:
    records, following = scrolled(collection, VERSION_FIELDS, None, limit, cursor)
    return InventoryPage(tuple(map(to_version, records)), following)


def counted(collection: Collection, filter: JsonObject | None) -> CollectionInfo:
    with collection.shard() as shard:
        documents, passages = (
            shard.count(edge.CountRequest(exact=True, filter=edge_filter(filter, kind))) for kind in (DOCUMENT, PASSAGE)
        )
    return CollectionInfo(collection.scope.collection, documents, passages, collection.space)


def scrolled(
    collection: Collection, fields: Iterable[str], filter: JsonObject | None, limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of documents' records with these fields, and the cursor of the next page."""
    request = edge.ScrollRequest(
        offset=scroll_start(cursor), limit=limit, filter=edge_filter(filter, DOCUMENT), with_payload=[*fields]
    )
    with collection.shard() as shard:
        records, following = shard.scroll(request)
    return [record.payload or {} for record in records], None if following is None else str(following)


def scroll_start(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return str(uuid.UUID(cursor))
    except ValueError:
        raise InvalidInput(f"{cursor[:80]!r} is not a cursor; pass the cursor of the previous page") from None
