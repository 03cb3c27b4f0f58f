"""Connects replicas and jobs anywhere in the cluster to the store. `connect_store` is the only entry point.

For the embedded store, one detached named actor on the head node owns the folder, because Edge takes an exclusive
lock. Ray restarts the actor if it dies. Every call is idempotent, so a call that fails with the actor is repeated until
its timeout. The actor keeps the code and the StoreSettings it was started with: a rollout of gateways does not restart
it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError

from serve_app.errors import NotFound, PlatformError, StoreBroken, StoreUnavailable
from serve_app.ports import VectorStore, Versions
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.settings import RedisSettings, Settings, StoreSettings
from serve_app.store.edge.folders import FOLDER
from serve_app.store.edge.versions import VersionReader
from serve_app.types import (
    CollectionInfo,
    Document,
    IndexedDocument,
    IndexInfo,
    InventoryPage,
    JsonObject,
    ListingPage,
    Recipe,
    Scope,
    VectorSpace,
)

NAMESPACE = "ai-docs"
HEAD_NODE = "node:__internal_head__"
ON_HEAD_NODE = {HEAD_NODE: 0.001}  # the folder is on that node, so restarts must stay there too
RETRY_PAUSE_S = 0.1

LOG = logging.getLogger(__name__)
T = TypeVar("T")


def connect_store(settings: Settings) -> VectorStore:
    """The store that the settings name. Ray must be initialised. Cheap, because it does not call the store yet."""
    if settings.store.url is None:
        return EmbeddedStoreClient(settings.data_dir, settings.store)
    from serve_app.store.qdrant.store import QdrantStore  # takes over a second; the embedded store does not need it

    own = settings.with_secrets()
    return QdrantStore.connect(own.store, connect_versions(own.redis))


def connect_versions(redis: RedisSettings) -> Versions | None:
    """Versions of collections in Redis; None without Redis: searches are then not cached."""
    if redis.url is None:
        return None
    from serve_app.cache.redis_versions import RedisVersions  # importing the library takes 0.1 s

    return RedisVersions.connect(redis.url.get_secret_value(), redis.timeout_s)


class StoreActor:
    """Owns the EdgeStore of one folder. Returns errors as values, because Ray would wrap raised ones."""

    def __init__(self, data_dir: Path, settings: StoreSettings) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._store: VectorStore | None = None
        self._opening = asyncio.Lock()

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            store = self._store or await self._open()
            return await getattr(store, method)(*args, **kwargs)
        except StoreBroken:  # state in memory cannot be trusted; a new process reloads every acknowledged write
            LOG.exception("the store is broken; its process ends, and Ray restarts it")
            os._exit(1)
        except PlatformError as error:
            return error.with_traceback(None)

    async def _open(self) -> VectorStore:
        """Open the store. If this fails, the next call tries again, because a locked folder may become free."""
        from serve_app.store.edge.store import EdgeStore

        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(EdgeStore.open, self._data_dir, self._settings)
            return self._store


class EmbeddedStoreClient:
    """Implements `ports.VectorStore`. Most methods are one call to the actor."""

    def __init__(self, data_dir: Path, settings: StoreSettings) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._actor = self._find_or_start()
        self._versions = VersionReader(data_dir / FOLDER)
        self._is_here: bool | None = None  # whether the actor runs on this node; determined on first use

    def _find_or_start(self) -> Any:
        return (
            ray.remote(StoreActor)
            .options(
                name=f"store {self._data_dir}",
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=0,
                resources=ON_HEAD_NODE,
                max_restarts=-1,
                max_concurrency=1_000,  # calls in flight
            )
            .remote(self._data_dir, self._settings)
        )

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The result of the call. Raises the store's error, or StoreUnavailable after timeout_s."""
        answer, _ = await self._call_until_answered(method, *args, **kwargs)
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    async def _call_until_answered(self, method: str, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        """The result, and whether the call was repeated. If so, an earlier attempt may have succeeded unnoticed."""
        repeated = False
        deadline_s = time.monotonic() + self._settings.timeout_s
        while True:
            try:
                return await within(self._actor.call.remote(method, *args, **kwargs), deadline_s), repeated
            except RayActorError as error:  # the actor died or restarts; the call may have taken effect or not
                if time.monotonic() + RETRY_PAUSE_S > deadline_s:
                    raise StoreUnavailable(f"the store's process died and did not restart in time: {error}") from error
                await asyncio.sleep(RETRY_PAUSE_S)
                self._actor = await asyncio.to_thread(self._find_or_start)
                repeated = True
            except TimeoutError:
                raise StoreUnavailable(f"no answer to {method} within {self._settings.timeout_s:g} s") from None
            except RayError as error:
                raise StoreUnavailable(f"{method} failed in the store's process: {error}") from error

    async def fingerprints(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, str]:
        return await self._call("fingerprints", scope, document_ids)

    async def indexed_documents(self, scope: Scope, document_ids: Sequence[str]) -> dict[str, IndexedDocument]:
        return await self._call("indexed_documents", scope, document_ids)

    async def write(
        self, scope: Scope, space: VectorSpace, documents: Sequence[IndexedDocument], *, made_for: str | None = None
    ) -> None:
        await self._call("write", scope, space, documents, made_for=made_for)

    async def delete_documents(self, scope: Scope, document_ids: Sequence[str]) -> int:
        answer, repeated = await self._call_until_answered("delete_documents", scope, document_ids)
        if isinstance(answer, PlatformError):
            raise answer
        return len(document_ids) if repeated and answer == 0 else answer  # the lost attempt deleted them

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        return await self._call("query_batch", queries)

    async def document(self, scope: Scope, document_id: str) -> Document:
        return await self._call("document", scope, document_id)

    async def listing(
        self, scope: Scope, *, filter: JsonObject | None = None, limit: int = 100, cursor: str | None = None
    ) -> ListingPage:
        return await self._call("listing", scope, filter=filter, limit=limit, cursor=cursor)

    def version_now(self, scope: Scope) -> bytes | None:
        return self._versions.current(scope) if self._is_here else None

    async def version(self, scope: Scope) -> bytes | None:
        if self._is_here is None:
            self._is_here = await asyncio.to_thread(is_head_node)
        if self._is_here:
            return self._versions.current(scope)
        return await self._call("version", scope)

    async def count(self, scope: Scope, filter: JsonObject | None = None) -> CollectionInfo:
        return await self._call("count", scope, filter)

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        return await self._call("collections", tenant)

    async def drop(self, scope: Scope) -> None:
        answer, repeated = await self._call_until_answered("drop", scope)
        if isinstance(answer, PlatformError) and not (repeated and isinstance(answer, NotFound)):
            raise answer

    async def active_index(self, scope: Scope) -> IndexInfo:
        return await self._call("active_index", scope)

    async def indexes(self, scope: Scope) -> list[IndexInfo]:
        return await self._call("indexes", scope)

    async def make_index(self, scope: Scope, recipe: Recipe) -> None:
        await self._call("make_index", scope, recipe)

    async def inventory(self, scope: Scope, *, limit: int = 1_000, cursor: str | None = None) -> InventoryPage:
        return await self._call("inventory", scope, limit=limit, cursor=cursor)

    async def hold(self, scope: Scope, lease_s: float) -> str:
        return await self._call("hold", scope, lease_s)

    async def switch(self, scope: Scope, held: str) -> None:
        await self._call("switch", scope, held)

    async def release(self, scope: Scope, held: str) -> None:
        await self._call("release", scope, held)

    async def check(self) -> None:
        await self._call("check")

    async def close(self) -> None:
        """Does nothing, because the actor outlives its clients."""


def is_head_node() -> bool:
    """Whether this process runs on the head node, as the embedded store does."""
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and HEAD_NODE in node["Resources"] for node in ray.nodes())  # type: ignore[no-untyped-call]


async def within(answer: Awaitable[T], deadline_s: float) -> T:
    """Raises TimeoutError at `deadline_s` of the monotonic clock."""
    async with asyncio.timeout(deadline_s - time.monotonic()):
        return await answer
