"""Compares the engine with sentence-transformers in fp32, on the same passages and with the same number of threads.

Each runs in its own process, because two thread pools in one process would compete for the cores.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import resolve_model
from serve_app.embedding.precision import BF16_FLAGS, cpu_flags
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.settings import EmbeddingSettings, Settings
from tests.bench.child import Child, answer_all
from tests.bench.corpus import passages
from tests.bench.rounds import Comparison, Series, interleave

PASSAGES = 64
PEER, PRODUCT = "sentence-transformers", "matrix product"
PRECISIONS = {"openvino": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
TARGETS = {"int8": 5.0, "bf16": 3.5}
MATRIX_PRECISIONS = ("fp32", "bf16")  # torch cannot multiply int8 matrices on every CPU
EMULATED = "this CPU has no bf16 arithmetic"
ARITHMETIC_TARGETS = {"bf16": 0.6}
MATRIX = 2_048  # rows and columns


def compare(settings: Settings, rounds: int) -> list[Comparison]:
    """Compares two rates for each precision of the engine: the model's tokens per second with those of
    sentence-transformers, and its arithmetic per second with that of a large matrix product in the same precision, if
    the CPU supports it."""
    precisions = PRECISIONS[settings.embedding.engine]
    model = resolve_model(settings.embedding, settings.data_dir)
    tokenizer = load_tokenizer(model)
    texts = passages(PASSAGES, tokenizer)
    tokens = [min(len(tokenizer.token_spans(text)) + 2, tokenizer.max_tokens) for text in texts]
    has_bf16 = bool(cpu_flags() & BF16_FLAGS)
    matrix_precisions = [kind for kind in MATRIX_PRECISIONS if kind != "bf16" or has_bf16]
    products = [f"{precision} {PRODUCT}" for precision in matrix_precisions]
    notes = {} if has_bf16 else {"bf16": EMULATED}
    with ExitStack() as stack:
        arguments = settings.embedding.model_dump_json(), str(settings.data_dir)
        children = {
            kind: stack.enter_context(Child(__name__, kind, *arguments)) for kind in (PEER, *precisions, *products)
        }
        times_s = interleave({kind: partial(child.ask, texts) for kind, child in children.items()}, rounds)
    rates = {
        kind: Series(kind, "tokens/s", tuple(sum(tokens) / s for s in times_s[kind])) for kind in (PEER, *precisions)
    }
    gflop = sum(flop(length, json.loads((model.path / "config.json").read_text())) for length in tokens) / 1e9
    product_gflop = 2 * MATRIX**3 / 1e9
    return [
        *(
            Comparison(f"engine, {kind}", rates[kind], rates[PEER], TARGETS.get(kind), notes.get(kind, ""))
            for kind in precisions
        ),
        *(
            Comparison(
                f"engine, {kind}, arithmetic",
                Series("engine", "GFLOP/s", tuple(gflop / s for s in times_s[kind])),
                Series(f"{kind} {PRODUCT}", "GFLOP/s", tuple(product_gflop / s for s in times_s[f"{kind} {PRODUCT}"])),
                ARITHMETIC_TARGETS.get(kind),
            )
            for kind in matrix_precisions
        ),
    ]


def flop(tokens: int, config: dict[str, int]) -> int:
    """Floating-point operations of BERT's layers for one text: two for each weight and token in the matrix products,
    and two products of tokens² × hidden for the scores and sums of attention."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    weights = 4 * hidden * hidden + 2 * hidden * inner
    return int(config["num_hidden_layers"] * (2 * weights * tokens + 4 * hidden * tokens * tokens))


def embedder(kind: str, settings: EmbeddingSettings, data_dir: Path) -> Callable[[list[str]], object]:
    """kind: sentence-transformers, a precision of the configured engine, or a matrix product in a precision, which
    ignores the texts."""
    if kind == PEER or kind.endswith(PRODUCT):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        if kind.endswith(PRODUCT):
            matrix = torch.rand(MATRIX, MATRIX, dtype=torch.bfloat16 if kind.startswith("bf16") else torch.float32)
            return lambda _: matrix @ matrix
        model = SentenceTransformer(str(resolve_model(settings, data_dir).path), device="cpu")
        return lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    chosen = EmbeddingSettings.model_validate(settings.model_dump() | {"precision": kind})
    engine = EmbeddingEngine.load(chosen, data_dir)
    return engine.embed


def seconds_of(embed: Callable[[list[str]], object], texts: list[str]) -> float:
    started_s = time.perf_counter()
    embed(texts)
    return time.perf_counter() - started_s


if __name__ == "__main__":
    kind, embedding, data_dir = sys.argv[1:]
    embed = embedder(kind, EmbeddingSettings.model_validate_json(embedding), Path(data_dir))
    answer_all(partial(seconds_of, embed), sys.stdin)
