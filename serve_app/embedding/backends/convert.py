"""sentence-transformers to OpenVINO. Run as a child process by `embedding.artifacts`; the only place that needs torch
and nncf when the engine is OpenVINO.

The whole pipeline of sentence-transformers (transformer, pooling, dense layers, normalisation; a cross-encoder's
transformer and activation) is traced as it is, so nothing of it is written a second time here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Encoding

from serve_app.embedding.backends.openvino import CORE, OpenVinoBackend
from serve_app.embedding.backends.torch import Pipeline, answer, load_pipeline
from serve_app.embedding.batches import padded_width
from serve_app.embedding.models import Model
from serve_app.embedding.sample_texts import sample_texts
from serve_app.embedding.tokenizer import INPUTS, ModelTokenizer, TokenBatch, load_tokenizer, open_tokenizer
from serve_app.errors import ConfigurationError, PlatformError
from serve_app.types import Vector

CHECKED_TEXTS = 64
CHECKED_BATCH = 8
MIN_COSINE = 0.9999  # of the converted model to the original
MIN_INT8_COSINE = 0.95
MAX_SCORE_DIFFERENCE = 1e-3  # of a converted cross-encoder to the original
MIN_INT8_CORRELATION = 0.95  # of its scores, Pearson's
EXAMPLES = ("a text of some words", "one", "")  # rows of unlike length: the mask is traced too


def main(order_json: str) -> None:
    """order: kind, source (fp32: the model's folder; int8: the fp32 artifact), target (an empty folder), model."""
    order = json.loads(order_json)
    fields = order["model"]
    model = Model(**{**fields, "path": Path(fields["path"]), "cache_dir": Path(fields["cache_dir"])})
    if order["kind"] == "int8":
        quantise(model, Path(order["source"]), Path(order["target"]))
    else:
        convert(model, Path(order["target"]))


def convert(model: Model, target: Path) -> None:
    """Writes model.xml and model.bin in fp32, checked against the original; and tokenizer.json if the model's own
    folder has none or one that gives other ids than sentence-transformers does. Raises ConfigurationError."""
    pipeline = load_pipeline(model, "cpu")
    features = pipeline.preprocess([("one", text) for text in EXAMPLES] if model.task == "rerank" else [*EXAMPLES])
    example = {name: features[name] for name in INPUTS if name in features}
    with torch.no_grad():
        graph = ov.convert_model(_graph(pipeline), example_input=example)
    ov.save_model(graph, target / "model.xml", compress_to_fp16=False)

    texts = sample_texts(CHECKED_TEXTS)
    _keep_tokenizer(model, pipeline, texts, target)
    tokenizer = open_tokenizer(model, target)
    backend = OpenVinoBackend(target, "fp32", threads=max(1, torch.get_num_threads()))
    for some, batch in checked_batches(texts, tokenizer, model):
        ours = backend.infer(batch)
        if ours.shape[1] != model.dim:
            raise ConfigurationError(f"the model gives {ours.shape[1]} dimensions, its configuration says {model.dim}")
        if fault := conversion_fault(pipeline, some, batch, ours):
            raise ConfigurationError(
                f"converted to OpenVINO the model answers differently ({fault}); use AIDOCS_EMBEDDING__ENGINE=torch"
            )


def conversion_fault(pipeline: Pipeline, texts: Sequence[str], batch: TokenBatch, ours: Vector) -> str:
    """Empty if these are the original's answers."""
    if isinstance(pipeline, SentenceTransformer):
        cosine = worst_cosine(ours, pipeline.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
        return "" if cosine >= MIN_COSINE else f"cosine {cosine:.5f}"
    with torch.no_grad():
        theirs = answer(pipeline, {name: torch.from_numpy(getattr(batch, name)) for name in INPUTS}).numpy()
    worst = float(np.abs(ours - theirs).max())
    return "" if worst <= MAX_SCORE_DIFFERENCE else f"a score by {worst:.4f}"


def quantise(model: Model, source: Path, target: Path) -> None:
    """int8 weights, a scale for each output channel; OpenVINO quantises the activations while it computes. Checked
    against the original, as this CPU computes it. Raises ConfigurationError."""
    import nncf  # slow to import, and for int8 only

    graph = CORE.read_model(source / "model.xml")
    compressed = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(compressed, target / "model.xml", compress_to_fp16=False)
    threads = max(1, torch.get_num_threads())
    original, quantised = OpenVinoBackend(source, "fp32", threads), OpenVinoBackend(target, "int8", threads)
    batches = [batch for _, batch in checked_batches(sample_texts(CHECKED_TEXTS), load_tokenizer(model), model)]
    pairs = [(original.infer(batch), quantised.infer(batch)) for batch in batches]
    if fault := quantisation_fault(model, pairs):
        raise ConfigurationError(
            f"in int8 the model answers differently ({fault}); use AIDOCS_EMBEDDING__PRECISION=bf16 or fp32"
        )


def quantisation_fault(model: Model, pairs: Sequence[tuple[Vector, Vector]]) -> str:
    """pairs: the original's answers to a batch, and those in int8. Empty if they are near enough."""
    if model.task == "rerank":
        original, quantised = (np.concatenate(scores).ravel() for scores in zip(*pairs, strict=True))
        correlation = float(np.corrcoef(original, quantised)[0, 1])
        return "" if correlation >= MIN_INT8_CORRELATION else f"correlation of scores {correlation:.3f}"
    worst = min(worst_cosine(*pair) for pair in pairs)
    return "" if worst >= MIN_INT8_COSINE else f"cosine {worst:.3f}"


def checked_batches(
    texts: Sequence[str], tokenizer: ModelTokenizer, model: Model
) -> Iterator[tuple[Sequence[str], TokenBatch]]:
    """For a cross-encoder each text is asked for by the one before."""
    for start in range(0, len(texts), CHECKED_BATCH):
        some = texts[start : start + CHECKED_BATCH]
        encodings: list[Encoding] = (
            [pair for at, text in enumerate(some) for pair in tokenizer.encode_pairs(some[at - 1], [text])]
            if model.task == "rerank"
            else tokenizer.encode(some)
        )
        longest = max(len(encoding.ids) for encoding in encodings)
        yield some, tokenizer.pad(encodings, padded_width(longest, tokenizer.max_tokens))


def worst_cosine(ours: Vector, theirs: Vector) -> float:
    return float((ours * theirs).sum(axis=1).min())


def _graph(pipeline: Pipeline) -> torch.nn.Module:
    """The pipeline as a function of named tensors, as the tracer wants it."""

    class TracedPipeline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pipeline = pipeline

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
            if token_type_ids is not None:
                inputs["token_type_ids"] = token_type_ids
            return answer(self.pipeline, inputs)

    return TracedPipeline().eval()


def _keep_tokenizer(model: Model, pipeline: Pipeline, texts: list[str], target: Path) -> None:
    reference = pipeline.tokenizer
    own = model.read_layout().transformer / "tokenizer.json"
    if own.is_file():
        ids = [encoding.ids for encoding in open_tokenizer(model, None).encode(texts)]
        if ids == reference(texts, truncation=True, max_length=model.max_tokens)["input_ids"]:
            return
    if not reference.is_fast:
        raise ConfigurationError(f"the tokenizer of {model.path} has no fast form (tokenizer.json)")
    reference.backend_tokenizer.save(str(target / "tokenizer.json"))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except PlatformError as error:
        sys.exit(str(error))
