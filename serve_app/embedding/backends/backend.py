"""What the engine needs from a backend. Knows no library."""

from __future__ import annotations

from typing import Protocol

from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import TokenBatch
from serve_app.types import Vector


class Backend(Protocol):
    """One loaded model."""

    precision: Precision
    passes_at_once: int  # that go on side by side, each with its part of the threads
    pass_tokens: int  # padded tokens in one forward pass beyond which nothing is gained but memory spent
    pass_overhead_tokens: int  # what a pass costs by itself, in tokens that could be computed in that time

    def infer(self, batch: TokenBatch) -> Vector:
        """(n, dim) float32: unit vectors, or a cross-encoder's scores (dim 1). Thread-safe; releases the GIL. Raises
        EngineUnavailable."""
        ...
