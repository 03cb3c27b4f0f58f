"""OpenVINO on the CPU. Pooling and normalisation are inside the converted graph."""

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
PASS_TOKENS_PER_THREAD = 512  # measured: throughput is flat from there, activations take 40 kB a token
PASS_OVERHEAD_TOKENS = 16  # measured: each pass reads all weights from memory
SHAPES_KEPT = 512  # of a kind of kernel, by each stream, those used last; passes have few, see embedding.batches
# Activations of one token that share a scale, the best first that is a part of every layer's width: 192 is 5 % faster
# than 128 and as near to the original (worst cosine 0.987); 384 is 8 % faster, and 0.980.
QUANTISED_TOGETHER = (192, 128, 64)
# One for the whole process and as long as it. With the first model it gives the thread that loads it a stack for
# signals, and frees that when it goes itself: in another thread than that, the thread keeps the freed stack, and its
# next signal, such as Ctrl-C, is a segmentation fault.
CORE = ov.Core()


class OpenVinoBackend:
    """Implements `Backend`. Two streams, each over half of the threads: threads of one pass wait for each other at
    every layer, and longest where another process has taken one's core. So its threads are bound to no core, either:
    two replicas would be bound to the same ones. Shapes are dynamic; each new one costs milliseconds.

    int8 multiplies the weights' int8 with activations that are quantised as they come, in groups of each token, so
    that an outlier costs its own group's accuracy alone and nothing has to be calibrated; all else is computed in
    bf16. A CPU without the arithmetic for int8 or bf16 computes in fp32 (told of bf16 here, for OpenVINO would emulate
    it; silently of int8): the answer is the better one, the speed that of fp32.
    """

    pass_overhead_tokens = PASS_OVERHEAD_TOKENS

    def __init__(self, artifact: Path, precision: Precision, threads: int) -> None:
        """artifact: folder of `ensure_artifact`. Raises EngineUnavailable if OpenVINO cannot load it."""
        self.precision = precision
        self.passes_at_once = PASSES_AT_ONCE if threads % PASSES_AT_ONCE == 0 else 1  # each has as many threads
        self.pass_tokens = PASS_TOKENS_PER_THREAD * (threads // self.passes_at_once)
        has_bf16 = bool(cpu_flags() & BF16_FLAGS)
        if precision == "bf16" and not has_bf16:
            logger.warning("this CPU has no bf16 arithmetic: OpenVINO computes in fp32")
        hint = ov.Type.bf16 if has_bf16 and precision != "fp32" else ov.Type.f32
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": self.passes_at_once,
            "INFERENCE_NUM_THREADS": threads,  # of all streams
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
        # Two first passes at once may never end: in the first, OpenVINO's binding sets up what it needs of Python, and
        # waits for the GIL holding a C++ guard; the second waits for the guard holding the GIL.
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
    """The size of a group for this graph."""
    widths = {width for node in graph.get_ordered_ops() if (width := summed_over(node)) is not None}
    return next((size for size in QUANTISED_TOGETHER if not any(width % size for width in widths)), 128)


def summed_over(node: ov.Node) -> int | None:
    """Of a product with weights, which have a shape: how many activations one sum takes."""
    if node.get_type_name() != "MatMul" or not (shape := node.input_value(1).get_partial_shape()).is_static:
        return None
    return int(shape.to_shape()[-1 if node.get_attributes()["transpose_b"] else -2])
