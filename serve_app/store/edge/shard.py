"""The adapter to Qdrant Edge: configures shards, and converts points, steps and errors.

Every call into a shard holds the GIL until it returns (measured with 0.9.0 for searches, updates, `load`, `flush` and
`optimize`). So all calls are kept short: an update has at most MAX_STEP_POINTS, and a flush follows every
FLUSH_AFTER_POINTS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from serve_app.control_groups import usable_cpus
from serve_app.errors import InvalidInput, PlatformError, StoreBroken, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.payload import DENSE, INTEGER_FIELDS, KEYWORD_FIELDS, SPARSE
from serve_app.store.points import StoredPoint, stored_point
from serve_app.store.write_plan import Put, Step
from serve_app.types import Quantization, SparseVector, Vector

MAX_STEP_POINTS = 128  # in one update: about 10 ms
FLUSH_AFTER_POINTS = 4_096  # bounds the log, and the time to replay it after a crash
MMAP = edge.Memory.Cached  # memory-mapped; a shard then opens in a fifth of the time
INDEX_PARAMS: Mapping[edge.PayloadSchemaType, Any] = {
    edge.PayloadSchemaType.Keyword: edge.KeywordIndexParams(memory=MMAP),
    edge.PayloadSchemaType.Integer: edge.IntegerIndexParams(lookup=True, range=True, memory=MMAP),
    edge.PayloadSchemaType.Float: edge.FloatIndexParams(memory=MMAP),
    edge.PayloadSchemaType.Datetime: edge.DatetimeIndexParams(memory=MMAP),
}
QUANTIZATIONS: Mapping[Quantization, Any] = {
    Quantization.NONE: None,
    Quantization.INT8: edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=MMAP),
    Quantization.BINARY: edge.BinaryQuantizationConfig(memory=MMAP),
    Quantization.TURBO: edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=MMAP),
}
# Edge's messages begin like this if the caller's input is wrong; any other error is a failure of Edge itself.
CALLERS_FAULTS = ("Wrong input", "Vector dimension error", "No appropriate index", "Validation", "Malformed", "Bad ")


@contextmanager
def edge_errors() -> Iterator[None]:
    """Translates Edge's errors. A panic in its Rust code is a BaseException that `except Exception` does not catch. It
    becomes StoreBroken, because the shard's memory may be inconsistent."""
    try:
        yield
    except (PlatformError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except (TypeError, ValueError) as error:  # a Python value that Edge cannot convert
        raise InvalidInput(f"the embedded store does not accept this: {error}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise StoreBroken(f"the embedded store panicked and must be restarted: {error}") from error
        kind = InvalidInput if str(error).startswith(CALLERS_FAULTS) else StoreUnavailable
        raise kind(f"the embedded store failed: {error}") from error


def create_shard(folder: Path, settings: StoreSettings, dim: int) -> edge.EdgeShard:
    """A new shard in an existing empty folder, with the payload indexes that every shard has."""
    with edge_errors():
        shard = edge.EdgeShard.create(str(folder), _config(settings, dim))
        for field in KEYWORD_FIELDS:
            create_index(shard, field, edge.PayloadSchemaType.Keyword)
        for field in INTEGER_FIELDS:
            create_index(shard, field, edge.PayloadSchemaType.Integer)
        shard.flush()
    return shard


def load_shard(folder: Path, settings: StoreSettings, dim: int) -> edge.EdgeShard:
    """Opens a shard and replays its log. Raises StoreUnavailable, which names the folder."""
    try:
        with edge_errors():
            return edge.EdgeShard.load(str(folder), _config(settings, dim))
    except PlatformError as error:
        raise StoreUnavailable(f"cannot open {folder}: {error}") from error


def _config(settings: StoreSettings, dim: int) -> edge.EdgeConfig:
    """Edge optimises only when we call `optimize`, which should index everything, so the thresholds are the lowest. An
    existing shard keeps its own settings (a graph's m, quantisation) until it is optimised. By default Edge starts
    several threads per CPU, which pass each search between them about a hundred times."""
    hnsw = edge.HnswIndexConfig(
        m=settings.hnsw_m, ef_construct=settings.hnsw_ef_construct, full_scan_threshold=10_000, memory=MMAP
    )
    quantization = QUANTIZATIONS[settings.quantization]
    dense = edge.EdgeVectorParams(dim, edge.Distance.Cosine, quantization_config=quantization)
    optimizers = edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1)
    return edge.EdgeConfig(
        vectors={DENSE: dense},
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf, memory=MMAP)},
        hnsw_config=hnsw,
        optimizers=optimizers,
        max_search_threads=settings.search_threads or max(1, usable_cpus() // 2),
    )


def create_index(shard: edge.EdgeShard, path: str, schema: edge.PayloadSchemaType) -> None:
    shard.update(edge.UpdateOperation.create_field_index(path, INDEX_PARAMS[schema]))


def apply(shard: edge.EdgeShard, step: Step) -> None:
    """Apply the step as one entry of the shard's log, so after a kill it is applied completely or not at all."""
    with edge_errors():
        if isinstance(step, Put):
            shard.update(edge.UpdateOperation.upsert_points([to_point(point) for point in step.points]))
        else:
            shard.update(edge.UpdateOperation.delete_points(list(step.ids)))


def to_point(point: StoredPoint) -> edge.Point:
    vectors: dict[str, Any] = {}
    if point.dense is not None:
        vectors[DENSE] = dense_vector(point.dense)
    if point.sparse is not None:
        vectors[SPARSE] = sparse_vector(point.sparse)
    return edge.Point(point.id, vectors, point.payload)


def from_record(record: edge.Record) -> StoredPoint:
    vectors: dict[str, Any] = record.vector or {}  # type: ignore[assignment]  # always named vectors here
    return stored_point(str(record.id), record.payload, vectors)


def dense_vector(vector: Vector) -> Any:
    return np.ascontiguousarray(vector, dtype=np.float32)


def sparse_vector(vector: SparseVector) -> edge.SparseVector:
    indices: Any = np.ascontiguousarray(vector.indices, dtype=np.uint32)
    values: Any = np.ascontiguousarray(vector.values, dtype=np.float32)
    return edge.SparseVector(indices, values)


def copy_points(source: edge.EdgeShard, target: edge.EdgeShard, ids: Iterable[str]) -> None:
    """Copy the points with these ids to the target. Ids that the source lacks are deleted from the target."""
    wanted: list[int | UUID | str] = [*ids]
    with edge_errors():
        found = source.retrieve(wanted, True, True)
        if found:
            points = [edge.Point(record.id, record.vector or {}, record.payload) for record in found]
            target.update(edge.UpdateOperation.upsert_points(points))
        gone = set(wanted) - {str(record.id) for record in found}
        if gone:
            target.update(edge.UpdateOperation.delete_points(list(gone)))
