"""The OpenVINO backend for CPUs. Pooling and normalisation are part of the converted graph."""

from __future__ import annotations

import logging
from pathlib import Path
from queue import LifoQueue

import numpy as np
import openvino as ov

from serve_app.embedding.precision import BF16_FLAGS, Precision, cpu_flags
from serve_app.embedding.tokenizer import TokenBatch
from serve_app.errors import EngineUnavailable
from serve_app.types import Vector

logger = logging.getLogger(__name__)

PASSES_AT_ONCE = 2  # measured, see docs/performance.md
PASS_TOKENS_PER_THREAD = 512  # measured: more tokens do not raise throughput; activations take 40 kB a token
PASS_OVERHEAD_TOKENS = 16  # measured: each pass reads all weights from memory
SHAPES_KEPT = 512  # kernels of each kind cached by each stream; passes have few shapes, see embedding.batches
# Activations of one token that share a scale. The first size that divides the width of every layer is used. Measured:
# 192 is 5 % faster than 128 and as accurate (worst cosine 0.987); 384 is 8 % faster, with a worst cosine of 0.980.
QUANTISED_TOGETHER = (192, 128, 64)
# A single Core lives as long as the process. When it loads its first model it gives the loading thread a stack for
# signals, and it frees that stack when it is destroyed. If another thread destroys it, the loading thread keeps the
# freed stack, and its next signal, such as Ctrl-C, is a segmentation fault.
CORE = ov.Core()


class OpenVinoBackend:
    """Implements `Backend`. Two streams use half of the threads each, because the threads of one pass wait for each
    other at every layer, and longest if another process occupies a core of one of them. Threads are not pinned to
    cores, because two replicas would be pinned to the same ones. Shapes are dynamic; each new one costs milliseconds.

    int8 multiplies int8 weights with activations that are quantised at run time in groups within each token. An outlier
    reduces the accuracy of its own group only, and no calibration is needed. All other operations use bf16. A CPU
    without int8 or bf16 arithmetic computes in fp32: results are more accurate, at the speed of fp32. For bf16 that is
    set here, with a warning, because OpenVINO would emulate it; for int8 OpenVINO does it silently.
    """

    pass_overhead_tokens = PASS_OVERHEAD_TOKENS

    def __init__(self, artifact: Path, precision: Precision, threads: int) -> None:
        """artifact: folder returned by `ensure_artifact`. Raises EngineUnavailable if OpenVINO cannot load it."""
        self.precision = precision
        self.passes_at_once = PASSES_AT_ONCE if threads % PASSES_AT_ONCE == 0 else 1  # streams of equal size
        self.pass_tokens = PASS_TOKENS_PER_THREAD * (threads // self.passes_at_once)
        has_bf16 = bool(cpu_flags() & BF16_FLAGS)
        if precision == "bf16" and not has_bf16:
            logger.warning("this CPU has no bf16 arithmetic: OpenVINO computes in fp32")
        hint = ov.Type.bf16 if has_bf16 and precision != "fp32" else ov.Type.f32
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": self.passes_at_once,
            "INFERENCE_NUM_THREADS": threads,  # total of all streams
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES_KEPT,
            "INFERENCE_PRECISION_HINT": hint,
        }
        try:
            graph = CORE.read_model(artifact / "model.xml")
            if precision == "int8":
                options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = quantised_together(graph)
            compiled = CORE.compile_model(graph, "CPU", options)
            self._free: LifoQueue[ov.InferRequest] = LifoQueue()
            for _ in range(self.passes_at_once):
                self._free.put(compiled.create_infer_request())
        except RuntimeError as error:
            raise EngineUnavailable(f"OpenVINO cannot load {artifact}; remove it to convert again: {error}") from error
        self._inputs = [tensor.any_name for tensor in compiled.inputs]
        token = np.ones((1, 1), np.int64)
        # Run one pass now, because two concurrent first passes can deadlock. OpenVINO's binding initialises itself in
        # the first: it holds a C++ guard and waits for the GIL, while the second holds the GIL and waits for the guard.
        self.infer(TokenBatch(token, token, np.zeros_like(token)))

    def infer(self, batch: TokenBatch) -> Vector:
        inputs = {name: getattr(batch, name) for name in self._inputs}
        request = self._free.get()
        try:
            vectors = request.infer(inputs, share_inputs=True)[0]
        except RuntimeError as error:
            raise EngineUnavailable(f"OpenVINO failed on a batch of {batch.input_ids.shape}: {error}") from error
        finally:
            self._free.put(request)
        return np.asarray(vectors, dtype=np.float32)


def quantised_together(graph: ov.Model) -> int:
    """The largest group size that divides the width of every layer; 128 if none does."""
    widths = {width for node in graph.get_ordered_ops() if (width := summed_over(node)) is not None}
    return next((size for size in QUANTISED_TOGETHER if not any(width % size for width in widths)), 128)


def summed_over(node: ov.Node) -> int | None:
    """Activations in one sum, if the node multiplies by weights (a second input of static shape); else None."""
    if node.get_type_name() != "MatMul" or not (shape := node.input_value(1).get_partial_shape()).is_static:
        return None
    return int(shape.to_shape()[-1 if node.get_attributes()["transpose_b"] else -2])
