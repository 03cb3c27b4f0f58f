"""The torch backend: sentence-transformers on CPU, CUDA or MPS. It is the reference, and the engine for GPUs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from serve_app.embedding.models import Model
from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import INPUTS, TokenBatch
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.types import Vector

Pipeline = SentenceTransformer | CrossEncoder

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_PASS_TOKENS_PER_THREAD, CPU_PASS_TOKENS = 2_048, 16_384  # at most
CPU_PASS_OVERHEAD_TOKENS = 16  # as for OpenVINO on the same machine: each pass reads all weights from memory
# Measured on an H100, see docs/performance.md.
GPU_PASS_TOKENS = 65_536
GPU_PASS_OVERHEAD_TOKENS = 12_000  # starting the kernels of a pass takes 4.6 ms


class TorchBackend:
    """Implements `Backend`. Passes run one at a time. Parallel passes in separate streams are not faster, because
    Python starts their kernels."""

    passes_at_once = 1

    def __init__(
        self,
        model: Model,
        precision: Literal["auto", Precision],
        threads: int,
        device: Literal["auto", "cpu", "cuda", "mps"],
    ) -> None:
        """Raises ConfigurationError for int8 or a missing device, EngineUnavailable if loading fails."""
        self.device = find_device(device)
        self.precision = precision_on(precision, self.device)
        cpu_pass_tokens = min(CPU_PASS_TOKENS_PER_THREAD * threads, CPU_PASS_TOKENS)
        self.pass_tokens = cpu_pass_tokens if self.device == "cpu" else GPU_PASS_TOKENS
        self.pass_overhead_tokens = CPU_PASS_OVERHEAD_TOKENS if self.device == "cpu" else GPU_PASS_OVERHEAD_TOKENS
        if self.device == "cpu":
            torch.set_num_threads(threads)
        self._lock = threading.Lock()
        self._pipeline = load_pipeline(model, self.device, DTYPES[self.precision])

    def infer(self, batch: TokenBatch) -> Vector:
        try:
            with self._lock, torch.inference_mode():
                features = {name: torch.from_numpy(getattr(batch, name)).to(self.device) for name in INPUTS}
                return np.asarray(answer(self._pipeline, features).cpu().numpy(), dtype=np.float32)
        except torch.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"a batch of {batch.input_ids.shape} needs more memory than the {self.device} device has free; set "
                f"AIDOCS_EMBEDDING__MAX_BATCH_TOKENS below {batch.input_ids.size}: {error}"
            ) from error
        except RuntimeError as error:
            raise EngineUnavailable(f"torch failed on a batch of {batch.input_ids.shape}: {error}") from error


def load_pipeline(model: Model, device: str, dtype: torch.dtype = torch.float32) -> Pipeline:
    """Raises EngineUnavailable if sentence-transformers cannot load the model."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # it would fill a service's log
    load = CrossEncoder if model.task == "rerank" else SentenceTransformer
    try:
        return load(str(model.path), device=device, local_files_only=True, model_kwargs={"dtype": dtype}).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EngineUnavailable(f"sentence-transformers cannot load {model.path}: {error}") from error


def answer(pipeline: Pipeline, features: Mapping[str, Any]) -> torch.Tensor:
    """(n, dim) float32: unit vectors, or a cross-encoder's scores as its `predict` returns them. features: the tensors
    named in INPUTS."""
    if isinstance(pipeline, CrossEncoder):
        return pipeline.activation_fn(pipeline(dict(features))["scores"].float())
    return torch.nn.functional.normalize(pipeline(dict(features))["sentence_embedding"].float(), dim=-1)


def precision_on(requested: Literal["auto", Precision], device: str) -> Precision:
    """The requested precision. `auto` means bf16 on a CUDA device that supports it, else fp32. Raises
    ConfigurationError for int8."""
    if requested == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if requested not in DTYPES:
        raise ConfigurationError(f"the torch engine computes in {' or '.join(DTYPES)}, not in {requested}")
    return requested


def find_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, usable in there.items() if usable)
    if not there[wanted]:
        raise ConfigurationError(f"this machine has no {wanted} device; set AIDOCS_EMBEDDING__DEVICE to auto or cpu")
    return wanted
