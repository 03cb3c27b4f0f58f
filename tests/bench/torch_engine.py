"""`python -m tests.bench.torch_engine`: speed of the torch engine on this machine, by the tokens in a forward pass.

Prints tokens/s of forward passes alone (texts tokenised beforehand) and of whole calls, the time of a forward pass for
one text, and documents/s of the embedding stage of jobs.index. Figures are medians. Takes a minute or two on a GPU.

Examples:  python -m tests.bench.torch_engine  ·  … --precision fp32  ·  … --texts 200 (on a CPU)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jobs.pipeline.rows import PipelineRow, RowOutcome, to_block
from jobs.pipeline.run import EMBED_CALLS
from jobs.pipeline.stages import EmbedStage
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.settings import EmbeddingSettings, Settings, load_settings
from tests.bench.corpus import entries, passages

PASS_TOKENS = (2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
ROUNDS = 5
SLICE_TEXTS = 2_048  # texts in one call
BLOCK_DOCUMENTS = 1_800


def main(
    texts: Annotated[
        int, typer.Option(min=10, help="Number of short texts; a tenth as many page-length texts are added.")
    ] = 20_000,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
) -> None:
    settings = load_settings()
    table = Table("padded tokens of a pass", "texts", "passes alone, tokens/s", "calls, tokens/s")
    tokenizer = load_tokenizer(resolve_model(settings.embedding, settings.data_dir))
    short = [document.text for document in entries(texts)]
    some = {"short": short, "long": passages(max(1, texts // 10), tokenizer)}
    for tokens in PASS_TOKENS:
        engine = EmbeddingEngine.load(on_torch(settings, precision, max_batch_tokens=tokens), settings.data_dir)
        if engine.max_batch_tokens < tokens:  # the largest that the backend accepts
            break
        for kind, own in some.items():
            alone, calls = passes_alone(engine, own), whole_calls(engine, own)
            table.add_row(f"{tokens:,}", kind, f"{alone:,.0f}", f"{calls:,.0f}")
    console = Console()
    console.print(table)
    one = engine.tokenizer.encode(["a question of a few words"])
    console.print(f"a pass of one text: {1e3 * median_s(lambda: engine.infer(one)):.1f} ms, in {engine.precision}")
    rate = stage_rate(settings, precision, short)
    console.print(f"embedding stage, blocks of {BLOCK_DOCUMENTS:,} documents: {rate:,.0f} documents/s")


def on_torch(settings: Settings, precision: str, **more: object) -> EmbeddingSettings:
    own = settings.embedding.model_dump() | {"engine": "torch", "precision": precision} | more
    return EmbeddingSettings.model_validate(own)


def passes_alone(engine: EmbeddingEngine, texts: Sequence[str]) -> float:
    encodings = engine.tokenizer.encode(texts)
    lengths = [len(encoding) for encoding in encodings]
    batches = engine.compose(lengths, engine.passes_at_once)

    def infer() -> None:
        for batch in batches:
            engine.infer([encodings[i] for i in batch])

    return sum(lengths) / median_s(infer)


def whole_calls(engine: EmbeddingEngine, texts: Sequence[str]) -> float:
    def embed() -> int:
        slices = (texts[start : start + SLICE_TEXTS] for start in range(0, len(texts), SLICE_TEXTS))
        return sum(int(engine.embed(some).tokens.sum()) for some in slices)

    return embed() / median_s(embed)


def stage_rate(settings: Settings, precision: str, texts: Sequence[str]) -> float:
    stage = EmbedStage(settings.model_copy(update={"embedding": on_torch(settings, precision)}))
    rows = [PipelineRow(RowOutcome.INDEX, "texts", str(number), texts=(text,)) for number, text in enumerate(texts)]
    blocks = [to_block(rows[start : start + BLOCK_DOCUMENTS]) for start in range(0, len(rows), BLOCK_DOCUMENTS)]
    with ThreadPoolExecutor(EMBED_CALLS) as pool:
        return len(rows) / median_s(lambda: list(pool.map(stage, blocks)))


def median_s(call: Callable[[], object]) -> float:
    """Median duration of a call, after a warm-up call."""
    took_s = []
    for _ in range(ROUNDS + 1):
        started_s = time.perf_counter()
        call()
        took_s.append(time.perf_counter() - started_s)
    return statistics.median(took_s[1:])


if __name__ == "__main__":
    typer.run(main)
