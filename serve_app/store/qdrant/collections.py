"""The collections on a Qdrant server: one for each index, with the Recipe in its metadata."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict

from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from serve_app.settings import StoreSettings
from serve_app.store.payload import DENSE, INTEGER_FIELDS, KEYWORD_FIELDS, SPARSE
from serve_app.store.qdrant.active_index import INDEX, physical_name
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.types import FIRST_INDEX, Quantization, Recipe, Scope, VectorSpace

SPACE, RECIPE = "space", "recipe"  # keys in a collection's metadata
QUANTIZATIONS: Mapping[Quantization, models.QuantizationConfig | None] = {
    Quantization.NONE: None,
    Quantization.INT8: models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)),
    Quantization.BINARY: models.BinaryQuantization(binary=models.BinaryQuantizationConfig()),
    Quantization.TURBO: models.TurboQuantization(
        turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4)
    ),
}
MAX_INDEXES = 64  # payload indexes of one collection; users choose the fields
MAX_INDEXES_FOR_FILTERS = 48  # the rest is for facets, which cannot work without an index
SPACE_TTL_S = 5.0  # how long a query may miss that another process has dropped and recreated a collection


def write_quorum(replicas: int) -> int:
    """Replicas that must have a write before it is acknowledged: the majority of 3 or more. Of 2 it is 1, because a
    majority of 2 would stop every write while one replica is down. That replica catches up before it is read again."""
    return 1 if replicas <= 2 else replicas // 2 + 1


class QdrantCollections:
    """Creates, finds and drops collections on the server. Every scope names an index. Many processes may do this at
    once: if two create the same collection, the second one finds it."""

    def __init__(self, client: AsyncQdrantClient, settings: StoreSettings, ask: QdrantCalls) -> None:
        self._client = client
        self._settings = settings
        self._ask = ask
        self._recipes: dict[Scope, tuple[Recipe, float]] = {}  # with the time until which it is valid
        self._indexes: dict[Scope, set[str]] = {}  # paths with a payload index, as old as the recipe
        self._useless: dict[Scope, set[str]] = {}  # paths that the server refused to index, or that no passage has
        self._creating = asyncio.Lock()

    async def space(self, scope: Scope) -> VectorSpace:
        """The space, read at most SPACE_TTL_S ago. Raises as `recipe` does."""
        recipe, until = self._recipes.get(scope, (None, 0.0))
        return (await self.recipe(scope) if recipe is None or time.monotonic() > until else recipe).space

    async def require_space(self, scope: Scope, space: VectorSpace) -> None:
        """Raises NotFound, and Conflict if the collection has another space. Reads the space again before it raises."""
        if await self.space(scope) != space and (actual := (await self.recipe(scope)).space) != space:
            raise conflict(scope, actual, space)

    async def ensure(self, scope: Scope, recipe: Recipe) -> Recipe:
        """Create the collection if it does not exist. Returns its recipe."""
        async with self._creating:
            try:
                actual = await self.recipe(scope)
            except NotFound:
                await self._create(scope, recipe)
                actual = await self.recipe(scope)
            await self.index_fields(scope)
            return actual

    async def index_fields(self, scope: Scope) -> None:
        """Create the payload indexes that every collection has. Makes no call if they exist; they are missing only if
        the creation of the collection was interrupted."""
        await self._index(scope, KEYWORD_FIELDS, models.PayloadSchemaType.KEYWORD)
        await self._index(scope, INTEGER_FIELDS, models.PayloadSchemaType.INTEGER)

    async def index_facet(self, scope: Scope, path: str) -> None:
        """Create the payload index for a facet, and wait until it is complete. Raises InvalidInput if the collection
        has MAX_INDEXES."""
        have = self._indexes.setdefault(scope, set())
        have.discard(path)  # missing on the server: another process recreated the collection
        if len(have) >= MAX_INDEXES:
            raise InvalidInput(f"{path!r}: the collection has facets or filters on {MAX_INDEXES} fields, the most")
        await self._index(scope, [path], models.PayloadSchemaType.KEYWORD)

    async def index_soon(self, scope: Scope, paths: Iterable[str], has_field: Callable[[str], Awaitable[bool]]) -> None:
        """Start the creation of payload indexes for these paths, up to MAX_INDEXES_FOR_FILTERS. Skips paths that no
        passage has and paths that the server refuses. Queries run without the indexes meanwhile."""
        have, useless = self._indexes.setdefault(scope, set()), self._useless.setdefault(scope, set())
        for path in paths:
            if path not in have | useless and len(have) < MAX_INDEXES_FOR_FILTERS:
                with contextlib.suppress(InvalidInput):
                    if await has_field(path):
                        await self._index(scope, [path], models.PayloadSchemaType.KEYWORD, wait=False)
                        continue
                useless.add(path)

    async def _index(
        self, scope: Scope, paths: Iterable[str], kind: models.PayloadSchemaType, wait: bool = True
    ) -> None:
        have = self._indexes.setdefault(scope, set())
        for path in paths:
            if path not in have:
                await self._ask(
                    self._client.create_payload_index,
                    collection_name=physical_name(scope),
                    field_name=path,
                    field_schema=kind,
                    wait=wait,
                )
                have.add(path)

    async def names(self, tenant: str) -> list[str]:
        """Names of the tenant's collections, sorted."""
        return sorted({scope.collection for scope in await self._all(tenant)})

    async def indexes(self, scope: Scope) -> list[Scope]:
        """The collection's indexes, sorted by name."""
        return sorted(
            (each for each in await self._all(scope.tenant) if each.at("") == scope.at("")),
            key=lambda each: each.index,
        )

    async def _all(self, tenant: str) -> list[Scope]:
        answer = await self._ask(self._client.get_collections)
        names = [each.name.split("~") for each in answer.collections]
        ours = [name for name in names if name[0] == tenant and len(name) in (2, 3)]
        return [Scope(tenant, name[1], name[2] if len(name) == 3 else FIRST_INDEX) for name in ours]

    async def drop(self, scope: Scope) -> None:
        await self._ask(self._client.delete_collection, collection_name=physical_name(scope))
        self.forget(scope)

    def forget(self, scope: Scope) -> None:
        self._recipes.pop(scope, None)
        self._indexes.pop(scope, None)
        self._useless.pop(scope, None)

    async def recipe(self, scope: Scope) -> Recipe:
        """The recipe, read from the server. Raises NotFound, and Conflict for a collection not made by ai-docs."""
        try:
            info = await self._ask(self._client.get_collection, collection_name=physical_name(scope))
        except NotFound:
            self.forget(scope)
            raise
        return self.learn(scope, info)

    def learn(self, scope: Scope, info: models.CollectionInfo) -> Recipe:
        """The recipe in `info`, which was just read from the server. Raises Conflict as `recipe` does."""
        metadata = info.config.metadata or {}
        if metadata.get(SPACE) is None:
            raise Conflict(f"{physical_name(scope)!r} was not made by ai-docs; delete it or name another collection")
        recipe = Recipe(VectorSpace(**metadata[SPACE]), **metadata.get(RECIPE, {}))
        self._indexes[scope], self._useless[scope] = set(info.payload_schema or ()), set()
        self._recipes[scope] = recipe, time.monotonic() + SPACE_TTL_S
        return recipe

    async def _create(self, scope: Scope, recipe: Recipe) -> None:
        settings, space, rest = self._settings, recipe.space, asdict(recipe)
        quantization = QUANTIZATIONS[settings.quantization]
        dense = models.VectorParams(size=space.dim, distance=models.Distance.COSINE, quantization_config=quantization)
        try:
            await self._ask(
                self._client.create_collection,
                collection_name=physical_name(scope),
                vectors_config={DENSE: dense},
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                hnsw_config=models.HnswConfigDiff(m=settings.hnsw_m, ef_construct=settings.hnsw_ef_construct),
                shard_number=settings.shards,
                replication_factor=settings.replicas,
                write_consistency_factor=write_quorum(settings.replicas),
                metadata={SPACE: rest.pop("space"), RECIPE: rest, INDEX: scope.index},
            )
        except (Conflict, InvalidInput) as error:  # another process was faster; the error depends on the server
            if not await self._ask(self._client.collection_exists, collection_name=physical_name(scope)):
                raise ConfigurationError(
                    "the server cannot create a collection with the settings AIDOCS_STORE__… (quantization "
                    f"{settings.quantization.value}, {settings.shards} shards, {settings.replicas} replicas): {error}"
                ) from error


def conflict(scope: Scope, actual: VectorSpace, asked: VectorSpace) -> Conflict:
    return Conflict(
        f"collection {scope.collection!r} was made with {_describe(actual)}, not with {_describe(asked)}; "
        "index it again under another name or with that model"
    )


def _describe(space: VectorSpace) -> str:
    return f"model {space.model} (revision {space.revision}, {space.dim} dimensions)"
