"""Where vectors and payload are kept, and how they are indexed."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, SecretStr

from serve_app.settings.section import MIB, Section
from serve_app.types import Quantization


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
