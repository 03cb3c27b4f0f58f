"""Search: one question, or many in one call."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Response

from serve_app.api.dependencies import Caller, InCollection, SearchLimiter, Session, Wired
from serve_app.api.openapi import WRITE, problems
from serve_app.api.problems import to_problem
from serve_app.api.responses import json_bytes_response
from serve_app.api.route import SearchRoute
from serve_app.api.schemas.search import BatchSearchAnswer, BatchSearchBody, SearchAnswerBody, SearchBody, path_of
from serve_app.errors import InvalidInput, PlatformError
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.settings import ApiSettings

SEARCH = "/v1/collections/{collection}/search"

router = APIRouter(route_class=SearchRoute, tags=["search"])


@router.post(SEARCH, response_model=SearchAnswerBody, responses=problems(*WRITE))
async def search(
    *, scope: InCollection, body: SearchBody, services: Wired, caller: Caller, session: Session, searches: SearchLimiter
) -> Response:
    """The passages that answer a question best."""
    request = body.to_request(scope.collection, services.settings)
    answer = await services.searcher.search(caller, request)
    services.prefetcher.observe(caller, session, request, answer, searches.load)
    return json_bytes_response(described(body, answer))


@router.post(SEARCH + ":batch", response_model=BatchSearchAnswer, responses=problems(*WRITE))
async def search_batch(scope: InCollection, body: BatchSearchBody, services: Wired, caller: Caller) -> Response:
    """Many searches in one call; each gets its answer, or `{"error": problem}`, in order."""
    limits = services.settings
    prepared = [prepare(query, scope.collection, limits) for query in body.queries]
    requests = [request for request in prepared if isinstance(request, SearchRequest)]
    found = iter(await services.searcher.search_batch(caller, requests))
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
