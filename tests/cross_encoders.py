"""A tiny cross-encoder. It knows nothing, but its scores of different pairs are far apart, so that who swaps two texts,
cuts the wrong one or leaves the segments out gets another order than the original."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serve_app.embedding.models import resolve_model
from serve_app.settings import EmbeddingSettings
from serve_app.types import Vector

MAX_TOKENS = 64


def save_cross_encoder(
    folder: Path, data_dir: Path, *, labels: int = 1, seed: int = 0, by_sentence_transformers: bool = False
) -> Path:
    """Of 32 dimensions, with the default model's vocabulary, as transformers saves it, or as CrossEncoder does."""
    with warnings.catch_warnings(action="ignore"):
        import torch
        import transformers
        from sentence_transformers import CrossEncoder

        torch.manual_seed(seed)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            resolve_model(EmbeddingSettings(), data_dir).path, model_max_length=MAX_TOKENS
        )
        config = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_labels=labels, max_position_embeddings=MAX_TOKENS, initializer_range=0.3,
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if by_sentence_transformers:
            CrossEncoder(str(folder), device="cpu").save_pretrained(str(folder))
    return folder


def reference_scores(folder: Path, query: str, passages: Sequence[str]) -> Vector:
    """As sentence-transformers gives them: (n,) float32."""
    with warnings.catch_warnings(action="ignore"):
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        scores = model.predict([(query, passage) for passage in passages], show_progress_bar=False)
    return np.asarray(scores, np.float32)
