"""Routes of a collection's documents: upload, get, list, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from serve_app.api.dependencies import InCollection
from serve_app.api.openapi import READ, WRITE, problems
from serve_app.api.responses import json_response
from serve_app.api.route import LookupRoute, UploadRoute
from serve_app.api.schemas.documents import (
    DeletedAnswer,
    DocumentAnswer,
    DocumentBody,
    DocumentPageAnswer,
    UploadAnswer,
    UploadRequest,
)
from serve_app.errors import InvalidInput, NotFound, UnreadableDocument
from serve_app.settings import ApiSettings
from serve_app.types import Document
from serve_app.validation import ID_PATTERN, MAX_ID_CHARS

DOCUMENTS = "/v1/collections/{collection}/documents"

uploads = APIRouter(route_class=UploadRoute, tags=["documents"])
router = APIRouter(route_class=LookupRoute, tags=["documents"])

DocumentId = Annotated[
    str,
    Path(
        min_length=1, max_length=MAX_ID_CHARS, pattern=ID_PATTERN, description="May contain slashes", examples=["a/b"]
    ),
]

ID_IN_QUERY = Query(min_length=1, max_length=MAX_ID_CHARS, pattern=ID_PATTERN, description="A document's id")
AnyDocumentId = Annotated[str | None, ID_IN_QUERY]
RequiredDocumentId = Annotated[str, ID_IN_QUERY]


@uploads.post(DOCUMENTS, response_model=UploadAnswer, responses=problems(*WRITE))
async def put_documents(call: InCollection, body: UploadRequest) -> Response:
    """Add or replace documents. The collection is created if it does not exist.

    The documents can be searched when the response arrives. An invalid body is refused as a whole, and nothing is
    written. A document whose content cannot be indexed is listed in `failed`, with the reason; the others are indexed.
    """
    limits = call.services.settings
    accepted: list[Document] = []
    failed: list[dict[str, str]] = []
    for document in map(DocumentBody.to_document, body.documents):
        try:
            require_content_within_limits(document, limits)
        except UnreadableDocument as error:
            failed.append({"id": document.id, "error": str(error)})
        else:
            accepted.append(document)
    report = await call.services.indexer.index(call.scope, accepted)
    failed += [{"id": item.id, "error": item.error} for item in report.failed]
    counts = {"indexed": report.indexed, "passages": report.passages, "unchanged": report.unchanged}
    return json_response({**counts, "failed": failed})


@router.get(DOCUMENTS, response_model=DocumentPageAnswer | DocumentAnswer, responses=problems(*READ))
async def list_documents(
    call: InCollection,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(description="From the previous page")] = None,
    id: AnyDocumentId = None,
) -> Response:
    """List documents in a stable order, page by page, without their texts. With `id`, get that document."""
    if id is not None:
        return json_response(await call.services.documents.document(call.scope, id))
    if limit > call.services.settings.max_limit:
        raise InvalidInput(f"limit is {limit}; at most {call.services.settings.max_limit} is allowed")
    return json_response(await call.services.documents.listing(call.scope, limit=limit, cursor=cursor))


@router.get(DOCUMENTS + "/{id:path}", response_model=DocumentAnswer, responses=problems(*READ))
async def get_document(call: InCollection, id: DocumentId) -> Response:
    """Get a document as it was uploaded."""
    return json_response(await call.services.documents.document(call.scope, id))


@router.delete(DOCUMENTS + "/{id:path}", response_model=DeletedAnswer, responses=problems(*READ))
async def delete_document(call: InCollection, id: DocumentId) -> Response:
    """Delete a document with all its passages."""
    return await deletion(call, id)


@router.delete(DOCUMENTS, response_model=DeletedAnswer, responses=problems(*READ))
async def delete_document_by_query(call: InCollection, id: RequiredDocumentId) -> Response:
    """Delete a document whose id is in the query string, which no client rewrites. Paths may be normalised on the way:
    `//` becomes `/`, and `a/../b` becomes `b`."""
    return await deletion(call, id)


async def deletion(call: InCollection, id: str) -> Response:
    """Raises NotFound."""
    deleted = await call.services.documents.delete_documents(call.scope, [id])
    if not deleted:
        raise NotFound(f"there is no document {id!r} in {call.scope.collection}")
    return json_response({"deleted": deleted})


def require_content_within_limits(document: Document, limits: ApiSettings) -> None:
    """Raises UnreadableDocument if the document is too large. The others of the request are still indexed."""
    if len(document.text) > limits.max_document_chars:
        raise UnreadableDocument(
            f"text has {len(document.text)} characters; at most {limits.max_document_chars} are allowed: split it"
        )
    size_bytes = document.metadata_bytes  # 0 for invalid metadata, which the indexer refuses with a reason
    if size_bytes > limits.max_metadata_bytes:
        raise UnreadableDocument(
            f"metadata has {size_bytes} bytes as JSON; at most {limits.max_metadata_bytes} are allowed"
        )
