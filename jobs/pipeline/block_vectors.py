"""The vectors of a block's rows, filled in column by column: to unpack all rows in Python would take a GPU's engine as
long as it computes (docs/performance.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.rows import BLOCK, SCHEMA
from serve_app.types import Vector


def texts_to_embed(block: pa.Table) -> list[str]:
    """Those of its rows, in order."""
    texts: list[str] = _flat(_columns(block)["texts"]).drop_null().to_pylist()
    return texts


def with_vectors(block: pa.Table, vectors: Vector, dim: int) -> pa.Table:
    """The block with `dense` complete and no `texts`. vectors: (n, dim), of `texts_to_embed`."""
    rows = _columns(block)
    is_known: npt.NDArray[np.bool_] = np.asarray(_flat(rows["texts"]).is_null())
    ends = np.cumsum([0, *pc.list_value_length(rows["texts"]).to_pylist()], dtype=np.int64)
    dense = np.zeros((len(is_known), dim), "<f4")
    if is_known.any():
        for start, end, known in zip(ends, ends[1:], rows["dense"].to_pylist(), strict=False):
            if known:
                dense[start:end] = np.frombuffer(known, "<f4").reshape(-1, dim)
    dense[~is_known] = vectors
    buffers = [None, pa.py_buffer(ends * dim * dense.itemsize), pa.py_buffer(dense)]
    filled = {
        "texts": pa.array([()] * len(rows), SCHEMA.field("texts").type),
        "dense": pa.Array.from_buffers(pa.large_binary(), len(rows), buffers).cast(pa.binary()),
    }
    columns = [filled.get(name, rows[name]) for name in SCHEMA.names]
    together = pa.table(columns, SCHEMA).to_struct_array().combine_chunks()
    return pa.table([pa.ListArray.from_arrays([0, len(rows)], together)], BLOCK)


def _columns(block: pa.Table) -> pa.Table:
    return pa.Table.from_struct_array(_flat(block["rows"]))


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return pc.list_flatten(lists).combine_chunks()
