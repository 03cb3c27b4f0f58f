"""Converts vectors to the output formats of `/v1/embeddings`, without Python lists."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from serve_app.types import Vector

OutputDtype = Literal["float32", "int8", "binary"]


def truncate(vectors: Vector, dimensions: int) -> Vector:
    """(n, dim) → (n, dimensions), scaled to unit length again. A row whose first `dimensions` values are zero stays
    zero."""
    cut = vectors[:, :dimensions]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.ascontiguousarray(np.divide(cut, norms, out=np.zeros_like(cut), where=norms > 0))


def quantize(vectors: Vector, dtype: OutputDtype) -> npt.NDArray[Any]:
    """Convert (n, dim) unit vectors. float32: unchanged. int8: round(127 x), symmetric. binary: (n, ceil(dim / 8))
    uint8 with one bit per dimension, 1 if it is positive, the first in the highest bit, zeros after the last."""
    match dtype:
        case "float32":
            return np.ascontiguousarray(vectors, dtype="<f4")
        case "int8":
            return np.rint(vectors * 127).clip(-127, 127).astype(np.int8)
        case "binary":
            return np.packbits(vectors > 0, axis=1)


def to_base64(row: npt.NDArray[Any]) -> str:
    return base64.b64encode(row.tobytes()).decode("ascii")
