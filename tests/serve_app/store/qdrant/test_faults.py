"""Failures between us and a server. Any call may fail; none may raise a library's error or leave half a document."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import grpc
import httpx
import pytest
from grpc.aio import AioRpcError, Metadata
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common import client_exceptions
from qdrant_client.http import exceptions as http_exceptions

from serve_app.errors import ConfigurationError, Conflict, InvalidInput, NotFound, PlatformError, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.qdrant import calls as qdrant_calls
from serve_app.store.qdrant.calls import translated
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import FIRST_INDEX, Quantization, Recipe
from tests.contracts.corpus import SCOPE, SPACE, ask, document, listed_ids, query

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

OLD = [document("a", "old one", "old two", "old three"), document("b", "same")]
NEW = [document("a", "new one", fingerprint="2"), document("b", "same"), document("c", "fresh", fingerprint="3")]


def http_error(status: int) -> http_exceptions.UnexpectedResponse:
    return http_exceptions.UnexpectedResponse(status, "reason", b"details", httpx.Headers())


def grpc_error(code: grpc.StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details="details")


class CutOff:
    """A client whose calls work until `left` is used up, and fail from then on. As in a cluster, whose shards answer
    for themselves, the call that fails first may have been done in part."""

    def __init__(self, client: AsyncQdrantClient, error: Exception) -> None:
        self._client = client
        self._error = error
        self.left = 10**9

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1 and name in ("upsert", "delete"):
                await method(**half(kwargs))
            if self.left < 0:
                raise self._error
            return await method(*args, **kwargs)

        return call


def half(arguments: dict[str, Any]) -> dict[str, Any]:
    """Every other point of an upsert; of a delete the passages only, not the records."""
    if "points" in arguments:
        return arguments | {"points": arguments["points"][::2]}
    passages = models.FieldCondition(key="kind", match=models.MatchValue(value="passage"))
    where = models.Filter(must=[arguments["points_selector"].filter, passages])
    return arguments | {"points_selector": models.FilterSelector(filter=where)}


@pytest.fixture
async def cut_off() -> AsyncIterator[CutOff]:
    client = AsyncQdrantClient(":memory:")
    yield CutOff(client, http_error(500))
    await client.close()


@pytest.fixture
def store(cut_off: CutOff) -> QdrantStore:
    return QdrantStore(cast("AsyncQdrantClient", cut_off), StoreSettings())


CALLS: dict[str, Callable[[QdrantStore], Awaitable[Any]]] = {
    "fingerprints": lambda store: store.fingerprints(SCOPE, ["a"]),
    "indexed_documents": lambda store: store.indexed_documents(SCOPE, ["a"]),
    "write": lambda store: store.write(SCOPE, SPACE, NEW),
    "delete_documents": lambda store: store.delete_documents(SCOPE, ["a"]),
    "query_batch": lambda store: store.query_batch(
        [query("old", facets=("title",)), query("old", group_by="document_id")]
    ),
    "document": lambda store: store.document(SCOPE, "a"),
    "listing": lambda store: store.listing(SCOPE),
    "count": lambda store: store.count(SCOPE),
    "collections": lambda store: store.collections("acme"),
    "active_index": lambda store: store.active_index(SCOPE),
    "indexes": lambda store: store.indexes(SCOPE),
    "make_index": lambda store: store.make_index(SCOPE.at("new"), Recipe(SPACE, max_tokens=9)),
    "inventory": lambda store: store.inventory(SCOPE),
    "hold": lambda store: store.hold(SCOPE, lease_s=0.0),
    "switch": lambda store: store.switch(SCOPE.at(FIRST_INDEX), ""),
    "release": lambda store: store.release(SCOPE, ""),
    "drop": lambda store: store.drop(SCOPE),
    "check": lambda store: store.check(),
}


def test_every_method_is_tried() -> None:
    public = {name for name, _ in inspect.getmembers(QdrantStore, inspect.iscoroutinefunction) if name[0] != "_"}
    assert public - CALLS.keys() == {"close", "version"}, "these two ask the server nothing"


@pytest.mark.parametrize("name", CALLS)
async def test_a_failure_of_any_call_is_store_unavailable(store: QdrantStore, cut_off: CutOff, name: str) -> None:
    await store.write(SCOPE, SPACE, OLD)
    for calls in range(100):
        cut_off.left = calls
        try:
            await CALLS[name](store)
        except StoreUnavailable as error:
            assert "500" in str(error)
        else:
            assert calls > 0
            return
    pytest.fail("never succeeded")


async def test_repeating_heals_a_write_that_was_cut_off_anywhere(cut_off: CutOff) -> None:
    for calls in range(1, 100):
        store = QdrantStore(cast("AsyncQdrantClient", cut_off), StoreSettings())
        cut_off.left = 10**9
        await store.write(SCOPE, SPACE, OLD)
        cut_off.left = calls
        try:
            await store.write(SCOPE, SPACE, NEW)
            done = True
        except StoreUnavailable:
            done = False
        cut_off.left = 10**9
        # Whoever asks now which documents are whole is told so of those only that are.
        for id, fingerprint in (await store.fingerprints(SCOPE, ["a", "b", "c"])).items():
            [wanted] = [d for d in (*OLD, *NEW) if (d.document.id, d.fingerprint) == (id, fingerprint)][:1]
            assert await texts(store, id) == [item.passage.text for item in wanted.passages]
        await store.write(SCOPE, SPACE, NEW)
        for indexed in NEW:
            assert await texts(store, indexed.document.id) == [item.passage.text for item in indexed.passages]
        assert await store.fingerprints(SCOPE, ["a", "c"]) == {"a": "2", "c": "3"}
        await store.drop(SCOPE)
        if done:
            return
    pytest.fail("never succeeded")


async def test_a_removal_that_was_cut_off_leaves_no_document_that_passes_for_whole(cut_off: CutOff) -> None:
    for calls in range(100):
        store = QdrantStore(cast("AsyncQdrantClient", cut_off), StoreSettings())
        cut_off.left = 10**9
        await store.write(SCOPE, SPACE, OLD)
        cut_off.left = calls
        try:
            await store.delete_documents(SCOPE, ["a"])
            done = True
        except StoreUnavailable:
            done = False
        cut_off.left = 10**9
        if await store.fingerprints(SCOPE, ["a"]):
            assert await texts(store, "a") == ["old one", "old two", "old three"]
        await store.delete_documents(SCOPE, ["a"])
        assert await listed_ids(store) == ["b"]
        assert (await store.count(SCOPE)).passages == 1
        if done:
            return
    pytest.fail("never succeeded")


async def texts(store: QdrantStore, document_id: str) -> list[str]:
    """Of all stored passages of the document, in their order."""
    where = {"must": [{"key": "document_id", "match": {"value": document_id}}]}
    hits = (await ask(store, query("x", "dense", filter=where, limit=100))).hits  # type: ignore[arg-type]
    order = ["one", "two", "three", "same", "fresh"]
    return sorted((hit.text for hit in hits), key=lambda text: order.index(text.split()[-1]))


class TooOld:
    """A server that knows no such quantisation, seen through its client."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create_collection(self, **_: Any) -> None:
        raise http_error(400)


async def test_settings_that_the_server_refuses_are_named() -> None:
    client = AsyncQdrantClient(":memory:")
    store = QdrantStore(cast("AsyncQdrantClient", TooOld(client)), StoreSettings(quantization=Quantization.TURBO))
    with pytest.raises(ConfigurationError, match=r"quantization turbo.*details"):
        await store.write(SCOPE, SPACE, OLD)
    await store.close()


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_grpc_status_is_translated(code: grpc.StatusCode) -> None:
    error = translated(grpc_error(code), "acme~handbook")
    assert isinstance(error, (StoreUnavailable, NotFound, Conflict, InvalidInput))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidInput), (404, NotFound), (409, Conflict), (413, InvalidInput), (422, InvalidInput)]
    + [(status, StoreUnavailable) for status in (401, 403, 408, 429, 500, 502, 503, 504)],
)
def test_every_http_status_is_translated(status: int, kind: type[PlatformError]) -> None:
    error = translated(http_error(status), "acme~handbook")
    assert type(error) is kind
    assert "handbook" in str(error) or str(status) in str(error)
    assert "acme" not in str(error)


def library_errors() -> Iterator[Exception]:
    """One of each class that the client defines, so that a new one in a later release fails here."""
    examples: dict[type, Exception] = {
        http_exceptions.UnexpectedResponse: http_error(503),
        http_exceptions.ResponseHandlingException: http_exceptions.ResponseHandlingException(httpx.ReadTimeout("late")),
        client_exceptions.ResourceExhaustedResponse: client_exceptions.ResourceExhaustedResponse("slow down", 3),
    }
    for module in (http_exceptions, client_exceptions):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and kind.__module__ == module.__name__:
                yield examples.get(kind) or kind()


def unreadable_answer() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        models.CountResult.model_validate({})
    return caught.value


@pytest.mark.parametrize(
    "error", [*library_errors(), OSError("no route"), unreadable_answer()], ids=lambda error: type(error).__name__
)
async def test_every_error_of_the_client_is_translated(
    cut_off: CutOff, store: QdrantStore, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_calls, "TRY_PAUSES_S", (0.0,))
    cut_off._error = error
    cut_off.left = 0
    with pytest.raises(StoreUnavailable):
        await store.check()


async def test_our_own_mistakes_are_not_dressed_up(cut_off: CutOff, store: QdrantStore) -> None:
    cut_off._error = ValueError("a mistake")
    cut_off.left = 0
    with pytest.raises(ValueError, match="a mistake"):
        await store.check()


@pytest.mark.parametrize("error", [http_error(503), grpc_error(grpc.StatusCode.UNAVAILABLE)])
async def test_a_call_that_did_not_arrive_is_tried_again(error: Exception) -> None:
    calls = 0

    async def second_time_lucky() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        return "answer"

    assert await qdrant_calls.QdrantCalls(5.0)(second_time_lucky) == "answer"
    assert calls == 2


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A server that accepts and never says a word."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    for writer in held:
        writer.close()
    server.close()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_nobody_listens(closed_port: int, scheme: str) -> None:
    await require_unavailable(StoreSettings(url=f"{scheme}://127.0.0.1:{closed_port}", timeout_s=5))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_nobody_answers(silent_port: int, scheme: str) -> None:
    await require_unavailable(StoreSettings(url=f"{scheme}://127.0.0.1:{silent_port}", timeout_s=0.5))


async def require_unavailable(settings: StoreSettings) -> None:
    store = QdrantStore.connect(settings)
    for call in (store.check(), store.query_batch([query("x")]), store.write(SCOPE, SPACE, NEW)):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call
        assert time.monotonic() - begun < settings.timeout_s + 5  # the machine may be busy
    await store.close()


@pytest.mark.parametrize("url", ["", "localhost:6333", "ftp://x", "http://", "http://host:port", "grpc://[::1"])
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="AIDOCS_STORE__URL"):
        QdrantStore.connect(StoreSettings(url=url))
