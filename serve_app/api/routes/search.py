"""Search: one question, or many in one call."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from serve_app.api.bodies import content_length, parsed
from serve_app.api.dependencies import CollectionCall, InCollection
from serve_app.api.direct import DirectRoute
from serve_app.api.openapi import WRITE, problems
from serve_app.api.problems import to_problem
from serve_app.api.responses import json_bytes_response
from serve_app.api.route import Work
from serve_app.api.schemas.search import BatchSearchAnswer, BatchSearchBody, SearchAnswerBody, SearchBody, path_of
from serve_app.api.sessions import SESSION_PARAMETER, session_of
from serve_app.api.traffic import Traffic, load_of
from serve_app.errors import InvalidInput, PlatformError
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.settings import ApiSettings

SEARCH = "/v1/collections/{collection}/search"

MAX_REMEMBERED_BYTES = 512  # of a body: long filters are seldom sent again, and take 25 times their size


class BatchSearchRoute(DirectRoute):
    traffic = Traffic.SEARCHES


class SearchRoute(DirectRoute):
    """A body that was sent before is not read again, and what this process has kept is answered at once: such a request
    waits for nothing, so it takes no slot, no deadline and nobody who watches its client. It is never one too many."""

    traffic = Traffic.SEARCHES

    def may_be_at_hand(self, request: Request) -> bool:
        declared_bytes = content_length(request)
        return declared_bytes is not None and declared_bytes <= MAX_REMEMBERED_BYTES

    def work(self, call: CollectionCall, content: bytes) -> Work | Response:
        services, session = call.services, session_of(call.request)
        asked = services.asked.get((call.scope, content))
        if asked is None:
            body: SearchBody = self.validated(parsed(content, services.settings))
            asked = body, body.to_request(call.scope.collection, services.settings)
            if len(content) <= MAX_REMEMBERED_BYTES:
                services.asked.put((call.scope, content), asked)
        body, request = asked
        answer = services.searcher.kept(call.principal, request)
        return (
            Work(partial(self.endpoint, call, body)) if answer is None else told(call, session, body, request, answer)
        )


router = APIRouter(route_class=SearchRoute, tags=["search"])
batches = APIRouter(route_class=BatchSearchRoute, tags=["search"])


@router.post(
    SEARCH,
    response_model=SearchAnswerBody,
    responses=problems(*WRITE),
    openapi_extra={"parameters": [SESSION_PARAMETER]},
)
async def search(call: InCollection, body: SearchBody) -> Response:
    """The passages that answer a question best."""
    session = session_of(call.request)
    request = body.to_request(call.scope.collection, call.services.settings)
    return told(call, session, body, request, await call.services.searcher.search(call.principal, request))


def told(
    call: CollectionCall, session: str | None, body: SearchBody, request: SearchRequest, answer: SearchAnswer
) -> Response:
    call.services.prefetcher.observe(call.principal, session, request, answer, load_of(call.limiters))
    return json_bytes_response(described(body, answer))


@batches.post(SEARCH + ":batch", response_model=BatchSearchAnswer, responses=problems(*WRITE))
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
    told = {"cache": answer.cache, "took_ms": round(answer.took_ms, 3)}
    return content[:-1] + b"," + orjson.dumps(told)[1:]
