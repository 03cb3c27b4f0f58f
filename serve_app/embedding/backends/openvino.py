"""OpenVINO on the CPU. Pooling and normalisation are inside the converted graph."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import openvino as ov

from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import TokenBatch
from serve_app.errors import EngineUnavailable
from serve_app.types import Vector

logger = logging.getLogger(__name__)

PASS_TOKENS_PER_THREAD = 512  # measured: throughput is flat from there, activations take 40 kB a token
PASS_OVERHEAD_TOKENS = 16  # measured: each pass reads all weights from memory


class OpenVinoBackend:
    """Implements `Backend`. One stream over all threads: on 2 cores that is as fast for many texts and twice as fast
    for one as a stream per core, and takes half the memory. Shapes are dynamic; a new one costs about 2 %.

    A CPU without bf16 arithmetic computes a bf16 request in fp32 (OpenVINO does so silently; it is logged here): the
    answer is the better one, the speed that of fp32.
    """

    pass_overhead_tokens = PASS_OVERHEAD_TOKENS

    def __init__(self, artifact: Path, precision: Precision, threads: int) -> None:
        """artifact: folder of `ensure_artifact`. Raises EngineUnavailable if OpenVINO cannot load it."""
        self.precision = precision
        self.pass_tokens = PASS_TOKENS_PER_THREAD * threads
        hint = ov.Type.bf16 if precision == "bf16" else ov.Type.f32
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
        }
        try:
            compiled = ov.Core().compile_model(artifact / "model.xml", "CPU", options)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineUnavailable(f"OpenVINO cannot load {artifact}; remove it to convert again: {error}") from error
        if compiled.get_property("INFERENCE_PRECISION_HINT") != hint:
            logger.warning("this CPU has no %s arithmetic: OpenVINO computes in fp32", precision)
        self._inputs = [tensor.any_name for tensor in compiled.inputs]
        self._lock = threading.Lock()

    def infer(self, batch: TokenBatch) -> Vector:
        inputs = {name: getattr(batch, name) for name in self._inputs}
        try:
            with self._lock:
                vectors = self._request.infer(inputs, share_inputs=True)[0]
        except RuntimeError as error:
            raise EngineUnavailable(f"OpenVINO failed on a batch of {batch.input_ids.shape}: {error}") from error
        return np.asarray(vectors, dtype=np.float32)
