"""Engine against sentence-transformers in fp32: the same passages, the same threads, one process for each.

A process for each, because two thread pools in one process would fight for the cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.settings import EmbeddingSettings, Settings
from tests.bench.corpus import passages
from tests.bench.rounds import Comparison, Series, interleave

PASSAGES = 64
PRECISIONS = {"openvino": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
TARGETS = {"int8": 5.0, "bf16": 3.5}


class Contender:
    """A child process that embeds the texts each time it is told to, and says how long it took."""

    def __init__(self, kind: str, settings: Settings, texts: Sequence[str]) -> None:
        embedding = settings.embedding.model_dump_json()
        command = [sys.executable, "-m", "tests.bench.engine", kind, embedding, str(settings.data_dir)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask(list(texts))

    def _ask(self, message: object) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()
        if not (line := stdout.readline()):
            raise RuntimeError(f"a contender ended with {self._process.wait()}")
        return json.loads(line)

    def seconds(self) -> float:
        return float(self._ask("go"))

    def close(self) -> None:
        self._process.communicate(timeout=30)


def compare(settings: Settings, rounds: int) -> list[Comparison]:
    """Tokens per second of each of the engine's precisions over those of sentence-transformers; tokens as the model
    counts them."""
    precisions = PRECISIONS[settings.embedding.engine]
    tokenizer = load_tokenizer(resolve_model(settings.embedding, settings.data_dir))
    texts = passages(PASSAGES, tokenizer)
    tokens = sum(min(len(tokenizer.token_spans(text)) + 2, tokenizer.max_tokens) for text in texts)
    kinds = ["sentence-transformers", *precisions]
    contenders = {kind: Contender(kind, settings, texts) for kind in kinds}
    try:
        times_s = interleave({kind: contender.seconds for kind, contender in contenders.items()}, rounds)
    finally:
        for contender in contenders.values():
            contender.close()
    rates = {kind: Series(kind, "tokens/s", tuple(tokens / s for s in values)) for kind, values in times_s.items()}
    return [
        Comparison(f"engine, {kind}", rates[kind], rates["sentence-transformers"], TARGETS.get(kind))
        for kind in precisions
    ]


def embedder(kind: str, settings: EmbeddingSettings, data_dir: Path) -> Callable[[list[str]], object]:
    """kind: sentence-transformers, or a precision of the configured engine."""
    if kind == "sentence-transformers":
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        model = SentenceTransformer(str(resolve_model(settings, data_dir).path), device="cpu")
        return lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    chosen = EmbeddingSettings.model_validate(settings.model_dump() | {"precision": kind})
    engine = EmbeddingEngine.load(chosen, data_dir)
    return engine.embed


def child(kind: str, settings: EmbeddingSettings, data_dir: Path, commands: IO[str]) -> None:
    embed = embedder(kind, settings, data_dir)
    texts: list[str] = json.loads(commands.readline())
    print(json.dumps("ready"), flush=True)
    for _ in commands:
        started_s = time.perf_counter()
        embed(texts)
        print(json.dumps(time.perf_counter() - started_s), flush=True)


if __name__ == "__main__":
    child(sys.argv[1], EmbeddingSettings.model_validate_json(sys.argv[2]), Path(sys.argv[3]), sys.stdin)
