"""Search: one question, or many in one call."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Response

from serve_app.api.dependencies import InCollection
from serve_app.api.direct import SearchRoute
from serve_app.api.openapi import WRITE, problems
from serve_app.api.problems import to_problem
from serve_app.api.responses import json_bytes_response
from serve_app.api.schemas.search import BatchSearchAnswer, BatchSearchBody, SearchAnswerBody, SearchBody, path_of
from serve_app.api.sessions import SESSION_PARAMETER, session_of
from serve_app.api.traffic import Traffic
from serve_app.errors import InvalidInput, PlatformError
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.settings import ApiSettings

SEARCH = "/v1/collections/{collection}/search"

router = APIRouter(route_class=SearchRoute, tags=["search"])


@router.post(
    SEARCH,
    response_model=SearchAnswerBody,
    responses=problems(*WRITE),
    openapi_extra={"parameters": [SESSION_PARAMETER]},
)
async def search(call: InCollection, body: SearchBody) -> Response:
    """The passages that answer a question best."""
    session, limiter = session_of(call.request), call.limiters[Traffic.SEARCHES]
    request = body.to_request(call.scope.collection, call.services.settings)
    answer = await call.services.searcher.search(call.principal, request)
    call.services.prefetcher.observe(call.principal, session, request, answer, limiter.load)
    return json_bytes_response(described(body, answer))


@router.post(SEARCH + ":batch", response_model=BatchSearchAnswer, responses=problems(*WRITE))
async def search_batch(call: InCollection, body: BatchSearchBody) -> Response:
    """Many searches in one call; each gets its answer, or `{"error": problem}`, in order."""
    limits = call.services.settings
    prepared = [prepare(query, call.scope.collection, limits) for query in body.queries]
    requests = [request for request in prepared if isinstance(request, SearchRequest)]
    found = iter(await call.services.searcher.search_batch(call.principal, requests))
    answers = [next(found) if isinstance(item, SearchRequest) else item for item in prepared]
    results = [
        orjson.dumps({"error": to_problem(answer).as_json()})
        if isinstance(answer, PlatformError)
        else described(query, answer)
        for query, answer in zip(body.queries, answers, strict=True)
    ]
    return json_bytes_response(b'{"results":[' + b",".join(results) + b"]}")


def prepare(query: SearchBody, collection: str, limits: ApiSettings) -> SearchRequest | InvalidInput:
    try:
        return query.to_request(collection, limits)
    except InvalidInput as error:
        return error


def described(body: SearchBody, answer: SearchAnswer) -> bytes:
    """The answer's JSON around what was found, which is not decoded; but facets go by the names that were asked for,
    not by the store's paths."""
    content = answer.content
    if body.facets:
        found: dict[str, Any] = orjson.loads(content)
        found["facets"] = {name: found["facets"].get(path_of("facets", name), {}) for name in body.facets}
        content = orjson.dumps(found)
    told = {"release": answer.release, "cache": answer.cache, "took_ms": round(answer.took_ms, 3)}
    return content[:-1] + b"," + orjson.dumps(told)[1:]
