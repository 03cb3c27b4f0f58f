"""A loaded model that runs forward passes, and the embedding engine on top of it: tokenise, batch by length, infer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Encoding

from serve_app.control_groups import usable_cpus
from serve_app.embedding.artifacts import Kind, ensure_artifact
from serve_app.embedding.backends.backend import Backend
from serve_app.embedding.batches import compose_batches, padded_width, share_tokens
from serve_app.embedding.models import Model, resolve_model
from serve_app.embedding.precision import Precision, choose_precision, cpu_flags
from serve_app.embedding.tokenizer import ModelTokenizer, load_tokenizer
from serve_app.errors import EngineUnavailable
from serve_app.settings import EmbeddingSettings
from serve_app.types import Embeddings, Vector, VectorSpace


class Engine:
    """A loaded model and its forward passes. Thread-safe; create one per process.

    max_batch_tokens: most padded tokens in one pass; None, or a larger number, means the backend's own limit."""

    def __init__(self, model: Model, tokenizer: ModelTokenizer, backend: Backend, max_batch_tokens: int | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.precision = backend.precision
        self.passes_at_once = backend.passes_at_once
        self._backend = backend
        self.max_batch_tokens = min(max_batch_tokens or backend.pass_tokens, backend.pass_tokens)

    @property
    def dim(self) -> int:
        return self.model.dim

    def compose(self, lengths: Sequence[int], workers: int) -> list[list[int]]:
        """Indices of the texts in each pass. lengths: tokens of each text. workers: how many passes can run at once."""
        widths = [self._width(tokens) for tokens in lengths]
        max_tokens = min(self.max_batch_tokens, share_tokens(widths, workers))
        return compose_batches(widths, max_tokens, self._backend.pass_overhead_tokens)

    def infer(self, encodings: Sequence[Encoding]) -> Vector:
        """One forward pass: (n, dim) float32; unit vectors if the model embeds. Blocks while `passes_at_once` other
        passes run. Raises EngineUnavailable."""
        return self._backend.infer(self.tokenizer.pad(encodings, self.width(encodings)))

    def width(self, encodings: Sequence[Encoding]) -> int:
        """Padded tokens of each text if these form one pass."""
        return self._width(max(len(encoding) for encoding in encodings))

    def _width(self, tokens: int) -> int:
        return padded_width(tokens, self.tokenizer.max_tokens)


class EmbeddingEngine(Engine):
    """Text to unit vectors."""

    def __init__(self, model: Model, tokenizer: ModelTokenizer, backend: Backend, max_batch_tokens: int | None) -> None:
        super().__init__(model, tokenizer, backend, max_batch_tokens)
        self._threads = ThreadPoolExecutor(self.passes_at_once, thread_name_prefix="embed")

    @classmethod
    def load(cls, settings: EmbeddingSettings, data_dir: Path) -> EmbeddingEngine:
        """Load the model in about a second. Its first start on a machine also converts it, which takes seconds.
        Raises ConfigurationError if the model or the settings cannot work, EngineUnavailable if loading fails."""
        model = resolve_model(settings, data_dir)
        backend = load_backend(settings, model)
        return cls(model, load_tokenizer(model), backend, settings.max_batch_tokens)

    @property
    def space(self) -> VectorSpace:
        return self.model.space

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """One row per text, in order. As in sentence-transformers, a text is cut at the model's limit, and an empty
        text has a vector too. Raises EngineUnavailable."""
        encodings = self.tokenizer.encode(texts)
        lengths = [len(encoding) for encoding in encodings]
        vectors = np.empty((len(texts), self.model.dim), dtype=np.float32)

        def embed_batch(batch: list[int]) -> None:
            vectors[batch] = self.infer([encodings[i] for i in batch])

        batches = self.compose(lengths, self.passes_at_once)
        if len(batches) == 1:
            embed_batch(batches[0])
        else:
            list(self._threads.map(embed_batch, batches))  # `list` raises the error of a failed batch
        return Embeddings(vectors, np.asarray(lengths, dtype=np.int32))


def require_unit_length(embeddings: Embeddings, model: str) -> None:
    """Raises EngineUnavailable if a vector is not of unit length, such as the NaN that damaged memory produces."""
    for length in map(float, np.linalg.norm(embeddings.vectors, axis=1)):
        if not abs(length - 1.0) < 1e-2:
            raise EngineUnavailable(f"{model} returned a vector of length {length}, not 1")


def prepare(settings: EmbeddingSettings, data_dir: Path) -> None:
    """Fetch and convert every model of the settings, which is needed once per machine and model. Raises as
    `EmbeddingEngine.load`."""
    for each in settings.of_each:
        prepare_model(each, resolve_model(each, data_dir))


def prepare_model(settings: EmbeddingSettings, model: Model) -> None:
    if settings.engine == "openvino":
        ensure_artifact(model, _kind(choose_precision(settings.precision, cpu_flags())))


def _kind(precision: Precision) -> Kind:
    return "int8" if precision == "int8" else "fp32"


def load_backend(settings: EmbeddingSettings, model: Model) -> Backend:
    """The backend of the chosen engine; only its library is imported."""
    threads = settings.threads or usable_cpus()
    if settings.engine == "torch":
        from serve_app.embedding.backends.torch import TorchBackend

        return TorchBackend(model, settings.precision, threads, settings.device)
    from serve_app.embedding.backends.openvino import OpenVinoBackend

    precision = choose_precision(settings.precision, cpu_flags())
    return OpenVinoBackend(ensure_artifact(model, _kind(precision)), precision, threads)
