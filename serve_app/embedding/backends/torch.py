"""sentence-transformers on torch: CPU, CUDA or MPS. The reference, and the engine for a GPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from serve_app.embedding.models import Model
from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import INPUTS, TokenBatch
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.types import Vector

Pipeline = SentenceTransformer | CrossEncoder

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_PASS_TOKENS_PER_THREAD = 2_048
GPU_PASS_TOKENS = 1_000_000  # the setting decides
CPU_PASS_OVERHEAD_TOKENS = 16  # as OpenVINO on the same machine: the weights are read once
GPU_PASS_OVERHEAD_TOKENS = 2_000  # a pass of few tokens waits for its kernels to be started


class TorchBackend:
    """Implements `Backend`."""

    passes_at_once = 1

    def __init__(
        self, model: Model, precision: Precision, threads: int, device: Literal["auto", "cpu", "cuda", "mps"]
    ) -> None:
        """Raises ConfigurationError for int8 or a device that is not there, EngineUnavailable if loading fails."""
        if precision not in DTYPES:
            raise ConfigurationError(f"the torch engine computes in {' or '.join(DTYPES)}, not in {precision}")
        self.precision = precision
        self.device = find_device(device)
        self.pass_tokens = CPU_PASS_TOKENS_PER_THREAD * threads if self.device == "cpu" else GPU_PASS_TOKENS
        self.pass_overhead_tokens = CPU_PASS_OVERHEAD_TOKENS if self.device == "cpu" else GPU_PASS_OVERHEAD_TOKENS
        if self.device == "cpu":
            torch.set_num_threads(threads)
        self._lock = threading.Lock()
        self._pipeline = load_pipeline(model, self.device, DTYPES[precision])

    def infer(self, batch: TokenBatch) -> Vector:
        try:
            with self._lock, torch.inference_mode():
                features = {name: torch.from_numpy(getattr(batch, name)).to(self.device) for name in INPUTS}
                return np.asarray(answer(self._pipeline, features).cpu().numpy(), dtype=np.float32)
        except RuntimeError as error:
            raise EngineUnavailable(f"torch failed on a batch of {batch.input_ids.shape}: {error}") from error


def load_pipeline(model: Model, device: str, dtype: torch.dtype = torch.float32) -> Pipeline:
    """Raises EngineUnavailable if sentence-transformers cannot load the model."""
    load = CrossEncoder if model.task == "rerank" else SentenceTransformer
    try:
        return load(str(model.path), device=device, local_files_only=True, model_kwargs={"dtype": dtype}).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EngineUnavailable(f"sentence-transformers cannot load {model.path}: {error}") from error


def answer(pipeline: Pipeline, features: Mapping[str, Any]) -> torch.Tensor:
    """(n, dim) float32 of the tensors named in INPUTS: unit vectors, or a cross-encoder's scores as its `predict` gives
    them."""
    if isinstance(pipeline, CrossEncoder):
        return pipeline.activation_fn(pipeline(dict(features))["scores"].float())
    return torch.nn.functional.normalize(pipeline(dict(features))["sentence_embedding"].float(), dim=-1)


def find_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, usable in there.items() if usable)
    if not there[wanted]:
        raise ConfigurationError(f"there is no {wanted} device here; set AIDOCS_EMBEDDING__DEVICE to auto or cpu")
    return wanted
