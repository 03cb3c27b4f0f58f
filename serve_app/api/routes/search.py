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
from serve_app.api.route import PendingResponse
from serve_app.api.schemas.search import BatchSearchAnswer, BatchSearchBody, SearchAnswerBody, SearchBody, path_of
from serve_app.api.services import AskedSearch
from serve_app.api.sessions import SESSION_PARAMETER, session_of
from serve_app.api.traffic import Traffic, load_of
from serve_app.errors import InvalidInput, PlatformError
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.search.searcher import AssignedSearch
from serve_app.settings import ApiSettings

SEARCH = "/v1/collections/{collection}/search"

MAX_REMEMBERED_BYTES = 512  # of a body: long filters are seldom sent again, and take 25 times their size


class BatchSearchRoute(DirectRoute):
    traffic = Traffic.SEARCHES


class SearchRoute(DirectRoute):
    """Its endpoint makes the search that a body asks for, and the route answers it. A body that was sent before is not
    parsed again. An answer that this process holds is sent at once: the request needs no slot of the limit, no deadline
    and no task that watches its client, and is never refused."""

    traffic = Traffic.SEARCHES

    def may_be_at_hand(self, request: Request) -> bool:
        declared_bytes = content_length(request)
        return declared_bytes is not None and declared_bytes <= MAX_REMEMBERED_BYTES

    def work(self, call: CollectionCall, content: bytes) -> PendingResponse | Response:
        services, sticky_key = call.services, session_of(call.request) or ""
        asked = services.asked.get((call.scope, content))
        if asked is None:
            asked = self.endpoint(call, self.validated(parsed(content, services.settings)))
            if len(content) <= MAX_REMEMBERED_BYTES:
                services.asked.put((call.scope, content), asked)
        body, request = asked

        def respond(answer: SearchAnswer) -> Response:
            services.prefetcher.observe(call.principal, request, answer, load_of(call.limiters), sticky_key)
            return json_bytes_response(described(body, answer))

        async def finish(search: AssignedSearch) -> Response:
            return respond(await services.searcher.finish(search))

        begun = services.searcher.begin(call.principal, request, sticky_key=sticky_key)
        return respond(begun) if isinstance(begun, SearchAnswer) else PendingResponse(partial(finish, begun))


router = APIRouter(route_class=SearchRoute, tags=["search"])
batches = APIRouter(route_class=BatchSearchRoute, tags=["search"])


@router.post(
    SEARCH,
    response_model=SearchAnswerBody,
    responses=problems(*WRITE),
    openapi_extra={"parameters": [SESSION_PARAMETER]},
)
def search(call: InCollection, body: SearchBody) -> AskedSearch:
    """The passages that answer a question best."""
    return body, body.to_request(call.scope.collection, call.services.settings)


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
    about = {"cache": answer.cache, "took_ms": round(answer.took_ms, 3)}
    return content[:-1] + b"," + orjson.dumps(about)[1:]
