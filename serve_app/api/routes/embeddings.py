"""`/v1/embeddings` and `/v1/models`, compatible with any OpenAI client."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app.api.dependencies import Called
from serve_app.api.direct import DirectRoute
from serve_app.api.openapi import READ, WRITE, openai_errors
from serve_app.api.responses import json_response
from serve_app.api.route import ApiRoute
from serve_app.api.schemas.embeddings import EmbeddingsAnswer, EmbeddingsRequest, ModelAnswer, ModelsAnswer
from serve_app.api.services import Services
from serve_app.api.traffic import Traffic
from serve_app.api.vectors import quantize, to_base64, truncate
from serve_app.errors import InvalidInput, NotFound
from serve_app.settings import ApiSettings
from serve_app.telemetry.catalogue.requests import STAGE_SECONDS
from serve_app.types import Lane


class EmbeddingRoute(DirectRoute):
    traffic = Traffic.EMBEDDINGS


router = APIRouter(route_class=EmbeddingRoute, tags=["embeddings"])
INTERACTIVE_TEXTS = 16  # a call with more texts is bulk, and searches take precedence over it
models = APIRouter(route_class=ApiRoute, tags=["embeddings"])  # no limiter, because responses come from memory


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer, responses=openai_errors(*WRITE))
async def create_embeddings(call: Called, body: EmbeddingsRequest) -> Response:
    """Embed texts."""
    services = call.services
    require_model(services, body.model)
    require_within_limits(body, services.settings, services.embedder.space.dim)
    lane = Lane.INTERACTIVE if len(body.input) <= INTERACTIVE_TEXTS else Lane.BULK
    embeddings = await services.embedder.embed(body.input, lane)
    vectors = embeddings.vectors if body.dimensions is None else truncate(embeddings.vectors, body.dimensions)
    rows = quantize(vectors, body.output_dtype)
    items: list[dict[str, Any]] = [
        {"object": "embedding", "index": i, "embedding": to_base64(row) if body.encoding_format == "base64" else row}
        for i, row in enumerate(rows)
    ]
    if body.sparse:
        weights_of_all = await asyncio.to_thread(services.sparse.encode_passages, body.input)
        for item, weights in zip(items, weights_of_all, strict=True):
            item["sparse"] = {"indices": weights.indices, "values": weights.values}
    tokens = int(embeddings.tokens.sum())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    with services.meter.time(STAGE_SECONDS, stage="serialise", lane=lane):
        return json_response({"object": "list", "data": items, "model": services.models[0], "usage": usage})


@models.get("/v1/models", response_model=ModelsAnswer, responses=openai_errors(*READ))
async def list_models(call: Called) -> Response:
    """List the embedding models that are served."""
    return json_response({"object": "list", "data": [describe(call.request, name) for name in call.services.models]})


@models.get("/v1/models/{model:path}", response_model=ModelAnswer, responses=openai_errors(*READ))
async def get_model(model: str, call: Called) -> Response:
    """Get one model. Its name may contain slashes."""
    return json_response(describe(call.request, require_model(call.services, model)))


def describe(request: Request, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": request.app.state.started_at_s, "owned_by": "ai-docs"}


def require_model(services: Services, name: str) -> str:
    """The id of the served model. name: the id itself, or the part after its last slash. Raises NotFound."""
    for served in services.models:
        if name in (served, served.rsplit("/", 1)[-1]):
            return served
    raise NotFound(f"the model {name[:200]!r} is not served; available models: {', '.join(services.models)}")


def require_within_limits(body: EmbeddingsRequest, limits: ApiSettings, dim: int) -> None:
    for i, text in enumerate(body.input):
        if len(text) > limits.max_text_chars:
            raise InvalidInput(f"input[{i}] has {len(text)} characters; at most {limits.max_text_chars} are allowed")
    if body.dimensions is not None and body.dimensions > dim:
        raise InvalidInput(f"dimensions: {body.dimensions} is too many; the model's vectors have {dim}")
