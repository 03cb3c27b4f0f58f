"""Every engine returns the vectors of sentence-transformers for real texts of 1 to more than 256 tokens."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings
from serve_app.types import Vector
from tests.serve_app.embedding.texts import ODD, golden_texts

ENGINES = [
    ("openvino", "fp32", 0.9999),
    ("openvino", "bf16", 0.999),
    ("openvino", "int8", 0.985),
    ("torch", "fp32", 0.9999),
]


def cosines(left: Vector, right: Vector) -> Vector:
    return np.asarray((left * right).sum(axis=1))


@pytest.mark.filterwarnings("ignore")  # torch's and transformers' own
@pytest.mark.parametrize(("name", "precision", "least"), ENGINES)
def test_same_vectors_as_sentence_transformers(
    name: str, precision: str, least: float, model_data_dir: Path, reference: Vector
) -> None:
    texts = golden_texts()
    engine = EmbeddingEngine.load(
        EmbeddingSettings.model_validate({"engine": name, "precision": precision, "device": "cpu"}), model_data_dir
    )
    assert engine.precision == precision

    together = engine.embed(texts)
    assert together.tokens.min() <= 3
    assert together.tokens.max() == engine.model.max_tokens
    assert cosines(together.vectors, reference).min() >= least

    alone = range(0, len(texts), 11 if name == "openvino" else 31)  # each in a pass of its own, with the least padding
    vectors = np.concatenate([engine.embed([texts[i]]).vectors for i in alone])
    assert cosines(vectors, reference[list(alone)]).min() >= least


def test_there_are_enough_texts() -> None:
    texts = golden_texts()
    assert len(texts) - len(ODD) >= 150
    assert len(set(texts)) >= 200
    assert "" in texts


@pytest.mark.filterwarnings("ignore")
def test_bf16_is_computed_in_bf16_by_torch(model_data_dir: Path, reference: Vector) -> None:
    """On a CPU without bf16 OpenVINO falls back to fp32, so this is the one that sees bf16's rounding. Short texts:
    such a CPU takes a second for a long one."""
    settings = EmbeddingSettings(engine="torch", precision="bf16", device="cpu")
    engine = EmbeddingEngine.load(settings, model_data_dir)
    sample = [i for i, text in enumerate(golden_texts()) if len(text) < 100][::4]
    assert len(sample) >= 20
    found = cosines(engine.embed([golden_texts()[i] for i in sample]).vectors, reference[sample])
    assert 0.999 <= found.min() < 0.999999
