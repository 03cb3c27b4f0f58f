"""The Protocol that the engine requires of a backend. Imports no library."""

from __future__ import annotations

from typing import Protocol

from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import TokenBatch
from serve_app.types import Vector


class Backend(Protocol):
    """One loaded model."""

    precision: Precision
    passes_at_once: int  # passes that run in parallel, each with an equal part of the threads
    pass_tokens: int  # padded tokens in one forward pass; more would use memory without raising throughput
    pass_overhead_tokens: int  # fixed cost of a pass, as the number of tokens computed in the same time

    def infer(self, batch: TokenBatch) -> Vector:
        """(n, dim) float32: unit vectors, or a cross-encoder's scores (dim 1). Thread-safe; releases the GIL. Raises
        EngineUnavailable."""
        ...
