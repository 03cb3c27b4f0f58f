"""The default model, what sentence-transformers itself answers, and tiny models of other kinds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import Model, resolve_model
from serve_app.settings import EmbeddingSettings
from serve_app.types import Vector
from tests.serve_app.embedding.texts import golden_texts

SavesModel = Callable[..., Path]


@pytest.fixture(scope="session")
def default_model(model_data_dir: Path) -> Model:
    return resolve_model(EmbeddingSettings(), model_data_dir)


@pytest.fixture(scope="session")
def engine(model_data_dir: Path) -> EmbeddingEngine:
    return EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), model_data_dir)


@pytest.fixture(scope="session")
def reference(default_model: Model) -> Vector:
    """Golden vectors: (n, dim), of `golden_texts`."""
    with warnings.catch_warnings(action="ignore"):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(default_model.path), device="cpu")
        return np.asarray(model.encode(list(golden_texts()), show_progress_bar=False), dtype=np.float32)


@pytest.fixture(scope="session")
def save_tiny_model(default_model: Model) -> SavesModel:
    """Saves a random transformer of 16 dimensions with the default model's vocabulary."""

    def save(
        folder: Path, *, family: str = "Bert", pooling: str = "cls", dense: int | None = None, max_tokens: int = 32
    ) -> Path:
        with warnings.catch_warnings(action="ignore"):
            import torch
            import transformers
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.base.modules import Dense, Transformer
            from sentence_transformers.sentence_transformer.modules import Pooling

            torch.manual_seed(0)
            sizes = {
                "Bert": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
                "DistilBert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
            }
            config = getattr(transformers, f"{family}Config")(vocab_size=30522, **sizes[family])
            bare = folder / "bare"
            getattr(transformers, f"{family}Model")(config).save_pretrained(bare)
            transformers.AutoTokenizer.from_pretrained(default_model.path).save_pretrained(bare)
            first = Transformer(str(bare), max_seq_length=max_tokens)
            modules = [first, Pooling(16, pooling_mode=pooling)]
            if dense:
                modules.append(Dense(pooling_dim(modules[-1]), dense))
            SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
        return folder / "model"

    def pooling_dim(pooling: object) -> int:
        return int(pooling.get_embedding_dimension())  # type: ignore[attr-defined]

    return save
