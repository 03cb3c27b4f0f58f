"""sentence-transformers to OpenVINO. Run as a child process by `embedding.artifacts`; the only place that needs torch
and nncf when the engine is OpenVINO.

The whole pipeline of sentence-transformers (transformer, pooling, dense layers, normalisation) is traced as it is, so
nothing of it is written a second time here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import openvino as ov
import torch
from sentence_transformers import SentenceTransformer

from serve_app.embedding.backends.openvino import OpenVinoBackend
from serve_app.embedding.backends.torch import load_pipeline
from serve_app.embedding.calibration import calibration_texts
from serve_app.embedding.layout import read_layout
from serve_app.embedding.models import Model
from serve_app.embedding.tokenizer import INPUTS, ModelTokenizer, load_tokenizer, open_tokenizer
from serve_app.errors import ConfigurationError, PlatformError

CALIBRATION_TEXTS = 72  # 200 of 400 characters give the same cosines (mean 0.997) and take three times as long
CALIBRATION_CHARS = 160  # of each
FP32_BLOCKS = 3  # the first ones
CHECKED_TEXTS = 64
CHECKED_BATCH = 8
MIN_COSINE = 0.9999  # of the converted model to the original


def main(order_json: str) -> None:
    """order: kind, source (fp32: the model's folder; int8: the fp32 artifact), target (an empty folder), model."""
    order = json.loads(order_json)
    fields = order["model"]
    model = Model(**{**fields, "path": Path(fields["path"]), "cache_dir": Path(fields["cache_dir"])})
    if order["kind"] == "int8":
        quantise(Path(order["source"]), Path(order["target"]), load_tokenizer(model))
    else:
        convert(model, Path(order["target"]))


def convert(model: Model, target: Path) -> None:
    """Writes model.xml and model.bin in fp32, checked against the original; and tokenizer.json if the model's own
    folder has none or one that gives other ids than sentence-transformers does. Raises ConfigurationError."""
    pipeline = load_pipeline(model, "cpu")
    features = pipeline.preprocess(["a text of some words", "one", ""])  # rows of unlike length: the mask is traced too
    example = {name: features[name] for name in INPUTS if name in features}
    with torch.no_grad():
        graph = ov.convert_model(_graph(pipeline), example_input=example)
    ov.save_model(graph, target / "model.xml", compress_to_fp16=False)

    texts = calibration_texts(CHECKED_TEXTS)
    _keep_tokenizer(model, pipeline, texts, target)
    tokenizer = open_tokenizer(model, target)
    backend = OpenVinoBackend(target, "fp32", threads=max(1, torch.get_num_threads()))
    for start in range(0, len(texts), CHECKED_BATCH):
        some = texts[start : start + CHECKED_BATCH]
        ours = backend.infer(tokenizer.pad(tokenizer.encode(some)))
        if ours.shape[1] != model.dim:
            raise ConfigurationError(f"the model gives {ours.shape[1]} dimensions, its configuration says {model.dim}")
        theirs = pipeline.encode(some, normalize_embeddings=True, show_progress_bar=False)
        if (worst := float((ours * theirs).sum(axis=1).min())) < MIN_COSINE:
            raise ConfigurationError(
                f"converted to OpenVINO the model answers differently (cosine {worst:.5f}); use "
                "AIDOCS_EMBEDDING__ENGINE=torch"
            )


def quantise(source: Path, target: Path, tokenizer: ModelTokenizer) -> None:
    """int8 weights and activations by post-training quantisation (nncf, ranges for transformers with smooth
    quantisation), ranges measured on calibration texts, each by itself so that no padding is measured."""
    import nncf  # slow to import, and for int8 only
    from nncf import OverflowFix
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    graph = ov.Core().read_model(source / "model.xml")
    names = [tensor.any_name for tensor in graph.inputs]
    encodings = tokenizer.encode([text[:CALIBRATION_CHARS] for text in calibration_texts(CALIBRATION_TEXTS)])
    batches = [tokenizer.pad([encoding]) for encoding in encodings]
    samples = [{name: getattr(batch, name) for name in names} for batch in batches]
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=kept_in_fp32(graph), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE,  # it takes a bit of every weight; measured here, saturation costs less
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1),  # off: fits its scales to prose alone
        ),
    )
    ov.save_model(quantised, target / "model.xml", compress_to_fp16=False)


def kept_in_fp32(graph: ov.Model) -> list[str]:
    """Names of the operations whose int8 form costs most accuracy, found by shape so that it holds for any family:
    the first three blocks, and in every block the layer from the wide middle back to the hidden size (its input has
    the outliers). Measured on the default model, worst cosine on the shortest texts: 0.94 if all is int8, 0.97 or 0.98
    with one of the two exceptions, 0.982 with two blocks and the layers, 0.9847 with three."""
    steps = [op for op in graph.get_ordered_ops() if op.get_type_name() not in ("Constant", "Parameter", "Gather")]
    narrowing = [number for number, op in enumerate(steps) if _narrows(op)]
    first_blocks = range(narrowing[FP32_BLOCKS - 1] if len(narrowing) > FP32_BLOCKS else 0)
    return [steps[number].friendly_name for number in (*first_blocks, *narrowing)]


def _narrows(op: ov.Node) -> bool:
    """A product with a constant (out, in) weight of which out < in."""
    if op.get_type_name() != "MatMul" or op.input_value(1).get_node().get_type_name() != "Constant":
        return False
    rows, columns = op.input_value(1).get_shape()[-2:]
    out, into = (rows, columns) if op.get_attributes()["transpose_b"] else (columns, rows)
    return bool(out < into)


def _graph(pipeline: SentenceTransformer) -> torch.nn.Module:
    """The pipeline as a function of named tensors, as the tracer wants it."""

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pipeline = pipeline

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
            if token_type_ids is not None:
                inputs["token_type_ids"] = token_type_ids
            return torch.nn.functional.normalize(self.pipeline(inputs)["sentence_embedding"], dim=-1)

    return Graph().eval()


def _keep_tokenizer(model: Model, pipeline: SentenceTransformer, texts: list[str], target: Path) -> None:
    reference = pipeline.tokenizer
    own = read_layout(model.path).transformer / "tokenizer.json"
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
