"""Routes of collections: list, count, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from serve_app.api.dependencies import Called, InCollection
from serve_app.api.openapi import READ, problems
from serve_app.api.responses import json_response
from serve_app.api.route import LookupRoute
from serve_app.api.schemas.documents import CollectionAnswer, CollectionsAnswer, DeletedAnswer
from serve_app.errors import StoreUnavailable
from serve_app.types import CollectionInfo

router = APIRouter(route_class=LookupRoute, tags=["collections"])


@router.get("/v1/collections", response_model=CollectionsAnswer, responses=problems(*READ))
async def list_collections(call: Called) -> Response:
    """List all collections by name."""
    found = await call.services.collections.collections(call.principal.tenant)
    return json_response({"collections": [describe(info) for info in found]})


@router.get("/v1/collections/{collection}", response_model=CollectionAnswer, responses=problems(*READ))
async def get_collection(call: InCollection) -> Response:
    """Count a collection's documents and passages."""
    return json_response(describe(await call.services.collections.count(call.scope)))


@router.delete("/v1/collections/{collection}", response_model=DeletedAnswer, responses=problems(*READ))
async def delete_collection(call: InCollection) -> Response:
    """Delete a collection with all its documents. A damaged collection can be deleted too; `deleted` is then 0."""
    try:
        documents = (await call.services.collections.count(call.scope)).documents
    except StoreUnavailable:  # if the whole store is unavailable, `drop` raises this again
        documents = 0
    await call.services.collections.drop(call.scope)
    return json_response({"deleted": documents})


def describe(info: CollectionInfo) -> dict[str, Any]:
    return {"name": info.name, "documents": info.documents, "passages": info.passages}
