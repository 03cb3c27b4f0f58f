"""Calls to a Qdrant server, with a timeout, retries for calls that never arrived, and translated errors.

Qdrant's client raises its own errors, httpx's (wrapped) and gRPC's; none of them leaves this module.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from grpc.aio import AioRpcError  # type: ignore[import-untyped]
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from serve_app.errors import ConfigurationError, Conflict, InvalidInput, NotFound, PlatformError, StoreUnavailable
from serve_app.settings import StoreSettings

P = ParamSpec("P")
T = TypeVar("T")

GRPC_PORT, REST_PORT = 6334, 6333
TRY_PAUSES_S = (0.05, 0.25)  # for a node that restarts or has closed the connection; all our calls are idempotent

BY_HTTP_STATUS: dict[int, type[PlatformError]] = {
    **dict.fromkeys((400, 413, 422), InvalidInput),
    404: NotFound,
    409: Conflict,
}
BY_GRPC_CODE: dict[grpc.StatusCode, type[PlatformError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
}
TRANSPORT_STATUS = (502, 503, 504)
CLIENT_ERRORS = (ApiException, QdrantException, AioRpcError, OSError)


def connect(settings: StoreSettings) -> AsyncQdrantClient:
    """A client for `settings.url` that connects at its first call. The scheme is grpc, grpcs, http or https.

    Raises ConfigurationError if the URL has another scheme or no host."""
    url = settings.url or ""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("grpc", "grpcs", "http", "https") or not host:
        raise ConfigurationError(
            f"AIDOCS_STORE__URL={url!r}: give a Qdrant server as http://host:6333 or grpc://host:6334"
        )
    over_grpc = scheme.startswith("grpc")
    return AsyncQdrantClient(
        host=host,
        port=REST_PORT if over_grpc else port or REST_PORT,
        grpc_port=port or GRPC_PORT if over_grpc else GRPC_PORT,
        prefer_grpc=over_grpc,
        https=scheme in ("grpcs", "https"),
        prefix=parts.path.rstrip("/") or None,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        timeout=math.ceil(settings.timeout_s),
        check_compatibility=False,  # it calls the server from its own thread; `check` says more
    )


class QdrantCalls:
    """Used as `await ask(client.method, collection_name=…, …)` instead of `await client.method(…)`."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    async def __call__(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises StoreUnavailable, NotFound, Conflict or InvalidInput."""
        try:
            async with asyncio.timeout(self.timeout_s):
                for pause_s in TRY_PAUSES_S:
                    try:
                        return await method(*args, **kwargs)
                    except CLIENT_ERRORS as error:
                        if not never_arrived(error):
                            raise
                    await asyncio.sleep(pause_s)
                return await method(*args, **kwargs)
        except TimeoutError as error:
            raise StoreUnavailable(f"Qdrant did not answer within {self.timeout_s:g} s") from error
        except (*CLIENT_ERRORS, ValueError) as error:
            raise translated(error, str(kwargs.get("collection_name", ""))) from error


def never_arrived(error: Exception) -> bool:
    """Whether Qdrant itself sent no response: the connection failed, or a proxy found no server behind it."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in TRANSPORT_STATUS
    if isinstance(error, AioRpcError):
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return isinstance(error, ResponseHandlingException | OSError)


def translated(error: Exception, collection: str) -> Exception:
    """The PlatformError for an error of the client. Any other error is a bug of ours and is returned unchanged.

    collection: its name on the server; the message has only the part after the tenant."""
    name = [*collection.split("~"), collection][1]
    match error:
        case UnexpectedResponse():
            kind = BY_HTTP_STATUS.get(error.status_code or 0, StoreUnavailable)
            reason = f"HTTP {error.status_code}: {error.content.decode(errors='replace')[:500]}"
        case AioRpcError():
            kind = BY_GRPC_CODE.get(error.code(), StoreUnavailable)
            reason = f"{error.code().name}: {str(error.details())[:500]}"
        case ResourceExhaustedResponse():
            kind, reason = StoreUnavailable, f"too many requests, try again in {error.retry_after_s} s: {error}"
        case ResponseHandlingException():
            kind, reason = StoreUnavailable, f"{type(error.source).__name__}: {str(error.source)[:500]}"
        case ValidationError():  # of a gRPC response; requests are validated earlier
            kind, reason = StoreUnavailable, f"the response is not one of a supported Qdrant version: {error}"[:500]
        case ApiException() | QdrantException() | OSError():
            kind, reason = StoreUnavailable, f"{type(error).__name__}: {error}"
        case ValueError() if str(error).endswith("not found"):  # the client's in-memory mode
            kind, reason = NotFound, str(error)
        case ValueError() if str(error).endswith("already exists"):
            kind, reason = Conflict, str(error)
        case _:
            return error
    if kind is NotFound:
        return NotFound(f"there is no collection {name!r}")
    return kind(f"Qdrant: {reason}" if kind is StoreUnavailable else f"Qdrant refused ({reason}), collection {name!r}")
