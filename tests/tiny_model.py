"""A second model for tests, made here: no download."""

from __future__ import annotations

import warnings
from pathlib import Path


def tiny_model(
    vocabulary: Path,
    folder: Path,
    *,
    family: str = "Bert",
    pooling: str = "cls",
    dense: int | None = None,
    max_tokens: int = 32,
) -> Path:
    """Saves a random transformer of 16 dimensions in the folder. vocabulary: folder of the model whose it takes."""
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
        transformers.AutoTokenizer.from_pretrained(vocabulary).save_pretrained(bare)
        modules = [Transformer(str(bare), max_seq_length=max_tokens), Pooling(16, pooling_mode=pooling)]
        if dense:
            modules.append(Dense(int(modules[-1].get_embedding_dimension()), dense))
        SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"
