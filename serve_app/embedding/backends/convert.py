"""Converts a sentence-transformers model to OpenVINO. `embedding.artifacts` runs this module as a child process; with
the OpenVINO engine nothing else needs torch or nncf.

The pipeline of sentence-transformers is traced as a whole: transformer, pooling, dense layers and normalisation, or a
cross-encoder's transformer and activation. None of it is reimplemented here.
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
MIN_COSINE = 0.9999  # between the vectors of the converted and the original model
MIN_INT8_COSINE = 0.95
MAX_SCORE_DIFFERENCE = 1e-3  # between the scores of the converted and the original cross-encoder
MIN_INT8_CORRELATION = 0.95  # between these scores (Pearson)
EXAMPLES = ("a text of some words", "one", "")  # rows of different lengths, so that the mask is traced too


def main(order_json: str) -> None:
    """order: kind, source (the model's folder for fp32, the fp32 artifact for int8), target (empty folder), model."""
    order = json.loads(order_json)
    fields = order["model"]
    model = Model(**{**fields, "path": Path(fields["path"]), "cache_dir": Path(fields["cache_dir"])})
    if order["kind"] == "int8":
        quantise(model, Path(order["source"]), Path(order["target"]))
    else:
        convert(model, Path(order["target"]))


def convert(model: Model, target: Path) -> None:
    """Write model.xml and model.bin in fp32, and compare them with the original. Write tokenizer.json too if the
    model's folder has none, or has one whose ids differ from those of sentence-transformers. Raises
    ConfigurationError."""
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
            raise ConfigurationError(
                f"the model returns {ours.shape[1]} dimensions, but its configuration says {model.dim}"
            )
        if fault := conversion_fault(pipeline, some, batch, ours):
            raise ConfigurationError(
                f"converted to OpenVINO the model gives different results ({fault}); use AIDOCS_EMBEDDING__ENGINE=torch"
            )


def conversion_fault(pipeline: Pipeline, texts: Sequence[str], batch: TokenBatch, ours: Vector) -> str:
    """The difference from the original's output; "" if it is small enough."""
    if isinstance(pipeline, SentenceTransformer):
        cosine = worst_cosine(ours, pipeline.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
        return "" if cosine >= MIN_COSINE else f"cosine {cosine:.5f}"
    with torch.no_grad():
        theirs = answer(pipeline, {name: torch.from_numpy(getattr(batch, name)) for name in INPUTS}).numpy()
    worst = float(np.abs(ours - theirs).max())
    return "" if worst <= MAX_SCORE_DIFFERENCE else f"a score by {worst:.4f}"


def quantise(model: Model, source: Path, target: Path) -> None:
    """Quantise the weights to int8, with a scale for each output channel; OpenVINO quantises the activations at run
    time. The result is compared with the original on this CPU. Raises ConfigurationError."""
    import nncf  # slow to import, and needed for int8 only

    graph = CORE.read_model(source / "model.xml")
    compressed = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(compressed, target / "model.xml", compress_to_fp16=False)
    threads = max(1, torch.get_num_threads())
    original, quantised = OpenVinoBackend(source, "fp32", threads), OpenVinoBackend(target, "int8", threads)
    batches = [batch for _, batch in checked_batches(sample_texts(CHECKED_TEXTS), load_tokenizer(model), model)]
    pairs = [(original.infer(batch), quantised.infer(batch)) for batch in batches]
    if fault := quantisation_fault(model, pairs):
        raise ConfigurationError(
            f"in int8 the model gives different results ({fault}); use AIDOCS_EMBEDDING__PRECISION=bf16 or fp32"
        )


def quantisation_fault(model: Model, pairs: Sequence[tuple[Vector, Vector]]) -> str:
    """The difference between the models' outputs; "" if it is small enough. pairs: for each batch, the original's
    output and that in int8."""
    if model.task == "rerank":
        original, quantised = (np.concatenate(scores).ravel() for scores in zip(*pairs, strict=True))
        correlation = float(np.corrcoef(original, quantised)[0, 1])
        return "" if correlation >= MIN_INT8_CORRELATION else f"correlation of scores {correlation:.3f}"
    worst = min(worst_cosine(*pair) for pair in pairs)
    return "" if worst >= MIN_INT8_COSINE else f"cosine {worst:.3f}"


def checked_batches(
    texts: Sequence[str], tokenizer: ModelTokenizer, model: Model
) -> Iterator[tuple[Sequence[str], TokenBatch]]:
    """Batches of texts and their tokens. For a cross-encoder the query of each text is the text before it."""
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
    """The pipeline as a function of named tensors, which the tracer requires."""

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
