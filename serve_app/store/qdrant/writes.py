"""Writes to one index on a Qdrant server. After an interruption at any step, repeating the write completes it. Every
scope names an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qdrant_client import AsyncQdrantClient, models

from serve_app.store.payload import KIND, PASSAGE
from serve_app.store.points import StoredPoint, is_same, passage_points, record_point
from serve_app.store.qdrant.active_index import physical_name
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.store.qdrant.reads import MAX_IDS, QdrantReads
from serve_app.store.qdrant.requests import in_requests, to_point
from serve_app.store.write_plan import parts
from serve_app.types import IndexedDocument, Scope, document_point_id, passage_point_id


class QdrantWrites:
    def __init__(
        self, client: AsyncQdrantClient, ask: QdrantCalls, reads: QdrantReads, ordering: models.WriteOrdering
    ) -> None:
        self._client = client
        self._ask = ask
        self._reads = reads
        self._ordering = ordering

    async def put(self, scope: Scope, documents: Sequence[IndexedDocument]) -> None:
        """Write the documents in four steps: records without fingerprints, passages, removal of stale passages, records
        with fingerprints. Each step waits for the one before, because a cluster applies a request shard by shard, in no
        particular order."""
        present = await self._present(scope, documents)
        changed = (
            point
            for indexed in documents
            for point in passage_points(scope, indexed)
            if not is_same(point, present.get(point.id))
        )
        await self._upsert(scope, (record(scope, indexed, None) for indexed in documents))
        await self._upsert(scope, changed)
        for part in parts(documents, MAX_IDS):
            await self._delete(scope, stale_passages(scope, part))
        await self._upsert(scope, (record(scope, indexed, indexed.fingerprint) for indexed in documents))

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        """Delete the documents; returns how many existed. Deletes their fingerprints first, so a document whose removal
        is interrupted does not count as complete."""
        existing = 0
        for ids in parts(list(dict.fromkeys(document_ids)), MAX_IDS):
            existing += len(await self._reads.records(scope, ids, ["document_id"]))
            await self._ask(
                self._client.delete_payload,
                collection_name=physical_name(scope),
                keys=["fingerprint"],
                points=models.FilterSelector(filter=records_of(scope, ids)),
                ordering=self._ordering,
            )
            await self._delete(scope, models.Filter(must=[of_documents(ids)]))
        return existing

    async def _present(self, scope: Scope, documents: Sequence[IndexedDocument]) -> dict[str, StoredPoint]:
        """The stored passages that these documents would replace, by point id."""
        records = await self._reads.records(scope, [one.document.id for one in documents], ["document_id", "passages"])
        wanted = {one.document.id: len(one.passages) for one in documents}
        sizes = {(id := payload["document_id"]): min(payload["passages"], wanted[id]) for payload in records}
        return {point.id: point for point in await self._reads.passages(scope, sizes)}

    async def _upsert(self, scope: Scope, points: Iterable[StoredPoint]) -> None:
        for request in in_requests(map(to_point, points)):
            await self._ask(
                self._client.upsert,
                collection_name=physical_name(scope),
                points=request,
                ordering=self._ordering,
            )

    async def _delete(self, scope: Scope, where: models.Filter) -> None:
        await self._ask(
            self._client.delete,
            collection_name=physical_name(scope),
            points_selector=models.FilterSelector(filter=where),
            ordering=self._ordering,
        )


def record(scope: Scope, indexed: IndexedDocument, fingerprint: str | None) -> StoredPoint:
    return record_point(scope, indexed, len(indexed.passages), fingerprint)


def of_documents(document_ids: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key="document_id", match=models.MatchAny(any=list(document_ids)))


def records_of(scope: Scope, document_ids: Sequence[str]) -> models.Filter:
    """Selects the records that exist. A list of ids would be an error if one does not exist."""
    return models.Filter(must=[models.HasIdCondition(has_id=[document_point_id(scope, id) for id in document_ids])])


def stale_passages(scope: Scope, documents: Sequence[IndexedDocument]) -> models.Filter:
    """Selects passages of these documents that their current version does not have."""
    present = [
        passage_point_id(scope, indexed.document.id, number)
        for indexed in documents
        for number in range(len(indexed.passages))
    ]
    of_kind = models.FieldCondition(key=KIND, match=models.MatchValue(value=PASSAGE))
    return models.Filter(
        must=[of_kind, of_documents([indexed.document.id for indexed in documents])],
        must_not=[models.HasIdCondition(has_id=present)],
    )
