"""Reads of one index on a Qdrant server other than searches. Every scope names an index."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import InvalidInput
from serve_app.store.payload import DOCUMENT, RECORD_FIELDS, Payload
from serve_app.store.points import StoredPoint, to_indexed
from serve_app.store.qdrant.active_index import physical_name
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.store.qdrant.requests import from_record, to_filter
from serve_app.store.write_plan import parts
from serve_app.types import IndexedDocument, JsonObject, Scope, document_point_id, passage_point_id

MAX_IDS = 1_000  # in one request
MAX_VECTORS = 256  # in one response


class QdrantReads:
    def __init__(
        self, client: AsyncQdrantClient, ask: QdrantCalls, consistency: models.ReadConsistencyType | None
    ) -> None:
        self._client = client
        self._ask = ask
        self._consistency = consistency

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        records = await self.records(scope, document_ids, ["document_id", "fingerprint"])
        return {r["document_id"]: r["fingerprint"] for r in records if "fingerprint" in r}

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        records = await self.records(scope, document_ids, list(RECORD_FIELDS))
        found: dict[str, IndexedDocument] = {}
        for payload in records:
            id = payload["document_id"]
            if (indexed := to_indexed(payload, await self.passages(scope, {id: payload["passages"]}))) is not None:
                found[id] = indexed
        now = await self.fingerprints(scope, list(found))  # a document written meanwhile may mix two versions
        return {id: indexed for id, indexed in found.items() if now.get(id) == indexed.fingerprint}

    async def passages(self, scope: Scope, sizes: Mapping[str, int]) -> list[StoredPoint]:
        """The stored passages of these documents, with vectors. sizes: document id → upper bound of its passages."""
        ids = [passage_point_id(scope, id, number) for id, passages in sizes.items() for number in range(passages)]
        points: list[StoredPoint] = []
        for some in parts(ids, MAX_VECTORS):
            records = await self._ask(
                self._client.retrieve,
                collection_name=physical_name(scope),
                ids=list(some),
                with_payload=True,
                with_vectors=True,
                consistency=self._consistency,
            )
            points += map(from_record, records)
        return points

    async def records(self, scope: Scope, document_ids: Sequence[str], fields: list[str]) -> list[Payload]:
        """These fields of the documents' records. A document that does not exist is left out."""
        payloads: list[Payload] = []
        for ids in parts(document_ids, MAX_IDS):
            records = await self._ask(
                self._client.retrieve,
                collection_name=physical_name(scope),
                ids=[document_point_id(scope, id) for id in ids],
                with_payload=fields,
                consistency=self._consistency,
            )
            payloads += [record.payload or {} for record in records]
        return payloads

    async def scrolled(
        self, scope: Scope, fields: Iterable[str], filter: JsonObject | None, limit: int, cursor: str | None
    ) -> tuple[list[Payload], str | None]:
        """One page of documents' records with these fields, and the cursor of the next page."""
        records, following = await self._ask(
            self._client.scroll,
            collection_name=physical_name(scope),
            scroll_filter=to_filter(filter, DOCUMENT),
            limit=limit,
            offset=None if cursor is None else read_cursor(cursor),
            with_payload=list(fields),
            consistency=self._consistency,
        )
        return [record.payload or {} for record in records], None if following is None else str(following)


def read_cursor(cursor: str) -> str:
    try:
        return str(uuid.UUID(cursor))
    except ValueError:
        raise InvalidInput(f"{cursor[:80]!r} is not a cursor; pass the cursor of the previous page") from None
