from pathlib import Path

import numpy as np

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings


def test_vectors_are_unit_length_and_in_order(model_data_dir: Path) -> None:
    engine = EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), model_data_dir)
    texts = ["a", "two words", "", "long " * 400, "a"]
    found = engine.embed(texts)
    assert found.vectors.shape == (5, 384)
    assert found.vectors.dtype == np.float32
    assert found.tokens.tolist() == [3, 4, 2, 256, 3]
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.vectors[0], found.vectors[4], atol=1e-5)
    engine.require_healthy()
