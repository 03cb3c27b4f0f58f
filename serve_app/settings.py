"""All settings: one frozen model, read once (in `main`, a job or `cluster render`) and handed down by constructors.

Environment: `AIDOCS_<SECTION>__<FIELD>`, for example `AIDOCS_STORE__URL=http://127.0.0.1:6333`. A name that begins
with AIDOCS_ and is none of these stops the start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from serve_app.environment import explain, require_known
from serve_app.errors import ConfigurationError
from serve_app.query_types import Feedback, Fusion, FusionMethod, Smoothing
from serve_app.types import Quantization

PREFIX = "AIDOCS_"
MIB = 1024 * 1024
GIB = 1024 * MIB
ADAPTIVE_KINDS = 3  # of requests, each with a limit of max_concurrency: searches, embedding requests, lookups
ROOM_FOR_HEALTH = 32  # requests that no limit counts: health, pages, those that are just being refused


class Section(BaseModel, frozen=True, extra="forbid"):
    """One group of settings."""


class EmbeddingSettings(Section):
    model: str = "all-MiniLM-L6-v2"  # a sentence-transformers model: folder, installed package or name on the hub
    revision: str | None = None  # a hub revision; None = the newest that is at hand
    also: tuple[str, ...] = ()  # further models, of collections that are not of the first; each takes its memory
    engine: Literal["openvino", "torch"] = "openvino"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    placement: Literal["local", "pooled"] = "local"  # in the gateway replica, or in a deployment of its own
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # torch engine only
    max_batch_tokens: PositiveInt | None = None  # padded tokens in one forward pass; None = what the device gains from
    threads: PositiveInt | None = None  # None = the CPUs that this process may use; in a pool, those it reserves

    @property
    def of_each(self) -> list[EmbeddingSettings]:
        """Settings of each model alone, the first one first."""
        alone = self.model_copy(update={"also": ()})
        return [alone, *(alone.model_copy(update={"model": name, "revision": None}) for name in self.also)]


class ChunkingSettings(Section):
    max_tokens: PositiveInt = 256  # a passage with its title and headings; the model's own limit if that is lower
    overlap_tokens: NonNegativeInt = 0  # of a passage that had to be cut inside a paragraph


class StoreSettings(Section):
    url: str | None = None  # None = embedded; http://… or grpc://… = a Qdrant server or cluster
    api_key: SecretStr | None = None
    timeout_s: PositiveFloat = 10.0  # for one call
    hnsw_m: PositiveInt = 16
    hnsw_ef_construct: PositiveInt = 128
    # A collection takes another one at its next optimisation (embedded), or keeps its own (Qdrant server).
    quantization: Quantization = Quantization.NONE
    optimize_after_passages: PositiveInt = 10_000  # unindexed passages that start an optimisation (embedded)
    min_free_bytes: NonNegativeInt = 256 * MIB  # of its disk; writes that would leave less are refused (embedded)
    search_threads: PositiveInt | None = None  # that share a search (embedded); None = half of the CPUs
    shards: PositiveInt = 1  # of a new collection (Qdrant cluster)
    replicas: PositiveInt = 1  # of each shard (Qdrant cluster)


class SearchProfile(Section):
    """How a search is done; requests name one."""

    fusion: FusionMethod = FusionMethod.DBSF
    rrf_k: PositiveInt = 60
    prefetch: PositiveInt = 100  # candidates from each retriever before fusion
    hnsw_ef: PositiveInt | None = None  # candidates that the graph's search keeps; None = hnsw_ef_construct
    exact: bool = False  # compare with every vector, without graph and codes
    rescore: bool = True  # order what a quantised collection found by its float32 vectors
    oversampling: float = Field(2.0, ge=1, le=100)  # candidates taken for each one wanted, to be rescored
    feedback_passages: int = Field(0, ge=0, le=100)  # first hits that the query moves towards, for a second search
    feedback_share: float = Field(0.25, ge=0, le=1)  # of the mean of their vectors in the query
    smoothing_candidates: int = Field(0, ge=0, le=1_000)  # first hits whose scores similar ones share; 0 = none
    smoothing_neighbours: PositiveInt = 5  # nearest candidates
    smoothing_share: float = Field(0.3, ge=0, le=1)  # of their mean in a score
    rerank_model: str | None = None  # a cross-encoder that orders the first hits: folder, or name on the hub
    rerank_revision: str | None = None  # a hub revision; None = the newest that is at hand
    rerank_candidates: int = Field(50, ge=1, le=200)  # first hits that it orders; behind them the order stays

    def to_fusion(self) -> Fusion:
        return Fusion(self.fusion, self.rrf_k)

    def to_feedback(self) -> Feedback | None:
        return Feedback(self.feedback_passages, self.feedback_share) if self.feedback_passages else None

    def to_smoothing(self) -> Smoothing | None:
        neighbours, share = self.smoothing_neighbours, self.smoothing_share
        return Smoothing(self.smoothing_candidates, neighbours, share) if self.smoothing_candidates else None


QUALITY = SearchProfile(feedback_passages=3, smoothing_candidates=50)  # why: tests/bench/NOTES.md


class SearchSettings(Section):
    default_profile: str = "default"
    profiles: dict[str, SearchProfile] = {}  # beside the built-in "default" and "quality", or whole in their place

    @model_validator(mode="after")
    def default_exists(self) -> Self:
        self.profiles.setdefault("default", SearchProfile())
        self.profiles.setdefault("quality", QUALITY)
        if self.default_profile not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise ValueError(f"default_profile {self.default_profile!r} is none of the profiles: {known}")
        return self


class ApiSettings(Section):
    """Limits of one request; beyond them a clear error, never a truncation."""

    max_body_bytes: PositiveInt = 16 * MIB
    max_body_values: PositiveInt = 200_000  # JSON values in one body, the nested ones too: parsing them takes the loop
    max_texts: PositiveInt = 2_048  # in one /v1/embeddings call
    max_documents: PositiveInt = 1_000  # in one upload
    max_document_chars: PositiveInt = 4_000_000
    max_text_chars: PositiveInt = 100_000  # of one text to embed
    max_query_chars: PositiveInt = 8_192
    max_queries: PositiveInt = 100  # in one search:batch
    max_limit: PositiveInt = 200  # hits of one search
    max_offset: PositiveInt = 10_000
    max_facets: PositiveInt = 10
    max_filter_depth: PositiveInt = 8
    max_filter_conditions: PositiveInt = 256
    max_metadata_bytes: PositiveInt = 64 * 1024  # of one document, as JSON
    request_timeout_s: PositiveFloat = 30.0
    upload_timeout_s: PositiveFloat = 300.0
    health_timeout_s: PositiveFloat = 3.0  # for each part that /health/ready asks
    min_concurrency: PositiveInt = 64  # of searches, embedding requests, lookups each: fills a micro-batch
    max_concurrency: PositiveInt = 192  # how far that grows while latency stays low; beyond it 429
    max_concurrent_uploads: PositiveInt = 4
    texts_per_slot: PositiveInt = 64  # of one embedding request that weigh as much as a request of one
    queries_per_slot: PositiveInt = 4  # of one search:batch that weigh as much as one search

    @model_validator(mode="after")
    def concurrency_is_in_order(self) -> Self:
        if self.min_concurrency > self.max_concurrency:
            raise ValueError("min_concurrency is above max_concurrency")
        return self

    @property
    def most_admitted(self) -> int:
        """Requests at work at once, of all kinds: adaptive ones, which have a limit each, and uploads."""
        return ADAPTIVE_KINDS * self.max_concurrency + self.max_concurrent_uploads


class BatchingSettings(Section):
    """Micro-batches at the gateway: what waits when a worker is free goes together, up to these limits."""

    max_embed_texts: PositiveInt = 64  # in one batch to the pool, as the next two; a local engine composes its passes
    max_embed_chars: PositiveInt = 65_536
    embed_concurrency: PositiveInt | None = None  # batches of each lane at once; None = 2 per embedder
    max_queries: PositiveInt = 64
    query_concurrency: PositiveInt = 2  # batches on their way to the store at once
    max_waiting: PositiveInt = 4_096  # texts in each lane, and queries; beyond it: 429


class ServingSettings(Section):
    """Serve's own knobs. Bounds, target and delays of the autoscaling are for each deployment."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65_535)
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    target_ongoing_requests: PositiveFloat = 32.0
    max_ongoing_requests: PositiveInt = 640  # more than the API admits: it is what refuses, and health gets through
    max_queued_requests: PositiveInt = 1_024
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(60.0, ge=0)
    max_surge_percent: int = Field(100, ge=1, le=100)
    graceful_shutdown_timeout_s: PositiveFloat = 310.0  # how long a replica may finish what it has begun
    health_check_period_s: PositiveFloat = 5.0
    health_check_timeout_s: PositiveFloat = 10.0
    gateway_cpus: PositiveFloat = 0.1  # what a replica reserves; it uses what is free
    embedder_cpus: PositiveFloat = 1.0
    embedder_gpus: float = Field(0.0, ge=0)
    embedder_min_replicas: PositiveInt = 1
    embedder_max_replicas: PositiveInt = 2
    embedder_target_ongoing_requests: PositiveFloat = 1.5  # batches, not requests

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> Self:
        for least, most in (("min_replicas", "max_replicas"), ("embedder_min_replicas", "embedder_max_replicas")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} is above {most}")
        return self


class RedisSettings(Section):
    url: SecretStr | None = None  # redis://, rediss://, unix://; redis+cluster:// for a cluster. None = no Redis
    timeout_s: PositiveFloat = 0.1  # for one call of the cache


class CacheTierSettings(Section):
    """size_bytes is the most; a tier takes less where the machine has less. Entries are forgotten after ttl_s."""

    enabled: bool = True
    size_bytes: int = Field(ge=MIB)
    ttl_s: PositiveFloat


class MemoryCacheSettings(CacheTierSettings):
    size_bytes: int = Field(500 * MIB, ge=MIB)  # of each process
    ttl_s: PositiveFloat = 300.0


class SharedCacheSettings(CacheTierSettings):
    size_bytes: int = Field(2 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 1_800.0
    folder: Path | None = None  # on a tmpfs; None = below /dev/shm, and no such tier where there is none
    timeout_s: PositiveFloat = 0.25  # for one write


class RedisCacheSettings(CacheTierSettings):
    """There is such a tier where REDIS__URL is set."""

    size_bytes: int = Field(10 * GIB, ge=MIB)  # the server's maxmemory
    ttl_s: PositiveFloat = 3_600.0


class DiskCacheSettings(CacheTierSettings):
    size_bytes: int = Field(100 * GIB, ge=MIB)
    ttl_s: PositiveFloat = 86_400.0
    folder: Path | None = None  # None = cache/ in DATA_DIR
    timeout_s: PositiveFloat = 0.5  # for one call


class CacheSettings(Section):
    """Tiers from the nearest: process memory, the node's shared memory, Redis, disk."""

    l1: MemoryCacheSettings = MemoryCacheSettings()
    l2: SharedCacheSettings = SharedCacheSettings()
    l3: RedisCacheSettings = RedisCacheSettings()
    l4: DiskCacheSettings = DiskCacheSettings()
    negative_ttl_s: PositiveFloat = 10.0  # for which a NotFound or InvalidInput is remembered


class PrefetchSettings(Section):
    """Searches made ahead of those who are likely to ask them. A share or a ratio is 0 to 1."""

    enabled: bool = True
    max_load: float = Field(0.1, ge=0, le=1)  # share of a limit (searches, uploads, …) in use above which none is made
    least_confidence: float = Field(0.3, ge=0, le=1)  # share of the times that it followed
    least_useful_ratio: float = Field(0.2, ge=0, le=1)  # useful over all, below which all but a few probes end
    half_life_s: PositiveFloat = 3_600.0  # of what was observed
    session_idle_s: PositiveFloat = 600.0  # after which a session's next query is no follow-up
    timeout_s: PositiveFloat = 2.0  # for one


class AuthSettings(Section):
    mode: Literal["off"] = "off"  # off: every request is the local development principal


class Settings(BaseSettings):
    """Raises pydantic's ValidationError; `load_settings` turns it into a ConfigurationError for people."""

    model_config = SettingsConfigDict(  # an error's traceback would show the input, and that has the secrets
        frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("~/.local/share/ai-docs"), validate_default=True)
    embedding: EmbeddingSettings = EmbeddingSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    store: StoreSettings = StoreSettings()
    search: SearchSettings = SearchSettings()
    api: ApiSettings = ApiSettings()
    batching: BatchingSettings = BatchingSettings()
    serving: ServingSettings = ServingSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    prefetch: PrefetchSettings = PrefetchSettings()
    auth: AuthSettings = AuthSettings()

    @field_validator("data_dir")
    @classmethod
    def absolute(cls, value: Path) -> Path:
        """One folder for every process, wherever it was started."""
        if value == Path():
            raise ValueError("an empty path: name a folder, or leave the setting out")
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def drain_is_long_enough(self) -> Self:
        longest_s = max(self.api.request_timeout_s, self.api.upload_timeout_s)
        if self.serving.graceful_shutdown_timeout_s <= longest_s:
            raise ValueError(
                f"SERVING__GRACEFUL_SHUTDOWN_TIMEOUT_S must be above {longest_s:g}, the longest request "
                "(API__…TIMEOUT_S), or a rollout cuts requests off"
            )
        return self

    @model_validator(mode="after")
    def excess_is_refused(self) -> Self:
        least = self.api.most_admitted + ROOM_FOR_HEALTH
        if self.serving.max_ongoing_requests < least:
            raise ValueError(
                f"SERVING__MAX_ONGOING_REQUESTS must be at least {least}: {ADAPTIVE_KINDS} × API__MAX_CONCURRENCY + "
                f"API__MAX_CONCURRENT_UPLOADS + {ROOM_FOR_HEALTH}, or what is too much, and health checks with it, "
                "waits before the replica and is not refused"
            )
        return self

    def without_secrets(self) -> Settings:
        """For binding to a deployment: what Serve stores and shows holds no secret."""
        return self._with(api_key=None, redis_url=None)

    def with_secrets(self) -> Settings:
        """On the replica: its own environment's secrets put back in."""
        own = load_settings()
        return self._with(api_key=own.store.api_key, redis_url=own.redis.url)

    def _with(self, *, api_key: SecretStr | None, redis_url: SecretStr | None) -> Settings:
        store = self.store.model_copy(update={"api_key": api_key})
        return self.model_copy(update={"store": store, "redis": self.redis.model_copy(update={"url": redis_url})})


def load_settings() -> Settings:
    """Settings from the environment. Raises ConfigurationError on a misspelt name or a value that cannot be."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            require_known(name, Settings, PREFIX, free_form=f"{PREFIX}SEARCH__PROFILES__")
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings, PREFIX)) from error
    except SettingsError as error:  # a section that is not JSON
        raise ConfigurationError(f"{error}: a section's own variable takes a JSON object") from error
