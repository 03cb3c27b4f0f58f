"""Conversion of sentence-transformers models with other poolings, dense layers, families and tokenizers."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.artifacts import artifact_name
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.models import Model, resolve_model
from serve_app.settings import EmbeddingSettings
from tests.serve_app.embedding.conftest import SavesModel

POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]  # one vector behind the other
KINDS = [
    ({"pooling": POOLINGS}, True),
    ({"pooling": "mean", "dense": 8}, True),
    ({"pooling": "max", "family": "DistilBert"}, True),
    ({"pooling": "cls"}, False),
]
TEXTS = ["one", "", "a few more words here", "long " * 60, "emoji 🙂 and 漢字"]

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer warns of what the check after conversion settles


@pytest.mark.parametrize(("kind", "with_tokenizer"), KINDS, ids=["poolings", "dense", "distilbert", "no-tokenizer"])
def test_converted_model_answers_as_the_original(
    kind: dict[str, object], with_tokenizer: bool, tmp_path: Path, save_tiny_model: SavesModel
) -> None:
    from sentence_transformers import SentenceTransformer

    from serve_app.embedding.backends.convert import convert

    path = save_tiny_model(tmp_path, **kind)
    if not with_tokenizer:
        (path / "vocab.txt").write_text("\n".join(_vocabulary(path)))
        (path / "tokenizer.json").unlink()
    settings = EmbeddingSettings(model=str(path), precision="fp32")
    model = resolve_model(settings, tmp_path)
    folder = model.cache_dir / artifact_name("fp32")
    folder.mkdir(parents=True)
    convert(model, folder)  # here and not in a child process, which has its own test
    assert (folder / "tokenizer.json").is_file() is not with_tokenizer

    found = EmbeddingEngine.load(settings, tmp_path).embed(TEXTS)
    expected = SentenceTransformer(str(path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert found.vectors.shape == (len(TEXTS), model.dim)
    assert found.tokens.max() == model.max_tokens == 32
    assert np.asarray(found.vectors * expected).sum(axis=1).min() >= 0.9999


def test_a_cross_encoder_in_int8_is_judged_by_the_correlation_of_its_scores() -> None:
    from serve_app.embedding.backends.convert import quantisation_fault

    model = Model(Path(), "tiny", "1", 1, 64, Path(), "rerank")
    scores = np.random.default_rng(0).normal(size=(16, 1)).astype(np.float32)
    assert quantisation_fault(model, [(scores, 3 * scores + 1)]) == ""
    assert "correlation" in quantisation_fault(model, [(scores[:8], scores[:8]), (scores[8:], -scores[8:])])
    assert "correlation" in quantisation_fault(model, [(scores, np.ones_like(scores))])


def _vocabulary(path: Path) -> list[str]:
    import json

    vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
