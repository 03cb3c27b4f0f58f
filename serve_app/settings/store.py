"""Settings of the store."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, SecretStr

from serve_app.settings.section import MIB, Section
from serve_app.types import Quantization


class StoreSettings(Section):
    """Where vectors and payload are stored, and how they are indexed."""

    url: str | None = None
    """Qdrant server or cluster: `http://…` or `grpc://…`. Unset: the embedded store in `DATA_DIR`."""
    api_key: SecretStr | None = None
    """API key of the Qdrant server."""
    timeout_s: PositiveFloat = 10.0
    """Longest that one call to the store may take."""
    hnsw_m: PositiveInt = 16
    """Edges of each node in the HNSW graph."""
    hnsw_ef_construct: PositiveInt = 128
    """Candidates that are compared for each node while the graph is built."""
    quantization: Quantization = Quantization.NONE
    """Compressed vectors that a search reads first: `int8`, `binary` or `turbo` (4 bits). The embedded store applies a
    change to a collection at its next optimisation; a Qdrant server applies it to new collections only."""
    optimize_after_passages: PositiveInt = 10_000
    """Number of passages outside the HNSW graph that starts an optimisation (embedded store)."""
    min_free_bytes: NonNegativeInt = 256 * MIB
    """Free disk space to keep. Writes that would leave less are refused (embedded store)."""
    search_threads: PositiveInt | None = None
    """Threads that one search uses (embedded store). Unset: half of the CPUs."""
    shards: PositiveInt = 1
    """Shards of a new collection (Qdrant cluster)."""
    replicas: PositiveInt = 1
    """Replicas of each shard of a new collection (Qdrant cluster)."""
