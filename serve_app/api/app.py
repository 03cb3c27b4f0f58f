"""The HTTP API as one FastAPI application (DESIGN §6)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serve_app.api.direct import Shortcut
from serve_app.api.openapi import describe
from serve_app.api.paths import RefuseControlCharacters
from serve_app.api.problems import from_http_exception, internal_error, problem_response
from serve_app.api.routes import collections, docs, documents, embeddings, health, page, search
from serve_app.api.services import Services
from serve_app.api.traffic import make_limiters

DESCRIPTION = """Put documents in, ask in plain language, get the right passages back.

Errors are problem documents (RFC 9457); on `/v1/embeddings` and `/v1/models` they have OpenAI's form. Statuses 429 and
503 carry `Retry-After`, in seconds."""


def build_app(services: Services) -> FastAPI:
    """The application of one replica. Call it in the replica, because the application cannot be pickled."""
    app = FastAPI(
        title="ai-docs",
        version="1",
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,  # replaced by routes/docs.py
        redoc_url=None,
        lifespan=close_at_the_end,
    )
    app.state.services = services
    app.state.limiters = make_limiters(services.settings)
    app.state.started_at_s = int(time.time())
    for module in (search, embeddings, documents, collections, health):  # busiest first: Serve tries routes in order
        app.include_router(module.router)
    app.include_router(search.batches)
    app.include_router(documents.uploads)
    app.include_router(embeddings.models)
    app.add_middleware(RefuseControlCharacters)
    docs.mount(app)
    page.mount(app)
    app.add_exception_handler(HTTPException, refuse)
    app.add_exception_handler(Exception, fail)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # as FastAPI's documentation recommends
    busiest = [*search.router.routes, *embeddings.router.routes, *search.batches.routes]
    app.middleware_stack = Shortcut(app.build_middleware_stack(), busiest)
    return app


@asynccontextmanager
async def close_at_the_end(app: FastAPI) -> AsyncIterator[None]:
    """Close the services. Serve or uvicorn runs this after the last response, on the event loop of the requests."""
    yield
    services: Services = app.state.services
    await services.prefetcher.close()
    await services.cache.close()


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(request, from_http_exception(request, error))


async def fail(request: Request, error: Exception) -> Response:
    return problem_response(request, internal_error(error))
