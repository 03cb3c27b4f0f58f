import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.artifacts import artifact_name
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.precision import Precision
from serve_app.embedding.tokenizer import TokenBatch
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings
from serve_app.types import Vector

MAX_RESIDENT_BYTES = 350 * 1024 * 1024
SERVE = """
import json, sys
from pathlib import Path
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings
engine = EmbeddingEngine.load(EmbeddingSettings(precision="fp32", threads=2), Path(sys.argv[1]))
engine.embed(["word " * 300] * 64 + ["short"] * 300)
status = Path("/proc/self/status").read_text().split()
print(json.dumps({
    "heavy": [name for name in ("torch", "transformers", "sentence_transformers", "nncf") if name in sys.modules],
    "peak_bytes": int(status[status.index("VmHWM:") + 1]) * 1024,
}))
"""


def test_vectors_are_unit_length_and_in_order(engine: EmbeddingEngine) -> None:
    found = engine.embed(["a", "two words", "", "long " * 400, "a"])
    assert found.vectors.shape == (5, engine.space.dim)
    assert found.vectors.dtype == np.float32
    assert found.tokens.tolist() == [3, 4, 2, 256, 3]
    assert found.tokens.dtype == np.int32
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.vectors[0], found.vectors[4], atol=1e-5)


def test_no_texts_no_vectors(engine: EmbeddingEngine) -> None:
    found = engine.embed([])
    assert found.vectors.shape == (0, engine.space.dim)
    assert found.tokens.shape == (0,)


def test_company_does_not_change_a_vector(engine: EmbeddingEngine) -> None:
    texts = ["alone", "words " * 50, "", "🙂 漢字"]
    together = engine.embed([*texts, *["filler of another length"] * 90]).vectors[: len(texts)]
    np.testing.assert_allclose(together, [engine.embed([text]).vectors[0] for text in texts], atol=1e-5)


def test_text_that_is_no_text_does_not_disturb(engine: EmbeddingEngine) -> None:
    good, odd, replaced = engine.embed(["good", "\ud800 nul \0", "\ufffd nul "]).vectors
    np.testing.assert_allclose(good, engine.embed(["good"]).vectors[0], atol=1e-5)
    np.testing.assert_allclose(odd, replaced, atol=1e-5)


def test_threads_get_their_own_answers(engine: EmbeddingEngine) -> None:
    texts = [[f"text {i} of thread {t} " * (i + 1) for i in range(5)] for t in range(4)]
    alone = [engine.embed(some).vectors for some in texts]
    with ThreadPoolExecutor(4) as pool:
        together = [found.vectors for found in pool.map(engine.embed, texts * 3)]
    for number, vectors in enumerate(together):
        np.testing.assert_allclose(vectors, alone[number % 4], atol=1e-5)


def test_serving_process_is_small_and_never_imports_torch(model_data_dir: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(model_data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["heavy"] == []
    assert seen["peak_bytes"] < MAX_RESIDENT_BYTES


def test_damaged_artifact_names_its_folder(engine: EmbeddingEngine, tmp_path: Path) -> None:
    damaged = tmp_path / "models" / engine.model.cache_dir.name / artifact_name("fp32")
    damaged.mkdir(parents=True)
    (damaged / "model.xml").write_text("<net")
    with pytest.raises(EngineUnavailable, match=damaged.name):
        EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_torch_refuses_what_it_cannot(model_data_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="int8"):
        EmbeddingEngine.load(EmbeddingSettings(engine="torch", precision="int8"), model_data_dir)
    with pytest.raises(ConfigurationError, match="mps"):
        EmbeddingEngine.load(EmbeddingSettings(engine="torch", device="mps"), model_data_dir)


class BrokenBackend:
    """Answers NaN, as a GPU with damaged memory does."""

    precision: Precision = "fp32"
    passes_at_once = 1
    pass_tokens = 100
    pass_overhead_tokens = 10

    def infer(self, batch: TokenBatch) -> Vector:
        return np.full((len(batch.input_ids), 384), np.nan, dtype=np.float32)


async def test_health_is_an_answer_of_the_model(engine: EmbeddingEngine) -> None:
    await LocalEmbedder(engine).check()
    with pytest.raises(EngineUnavailable, match="length nan"):
        await LocalEmbedder(EmbeddingEngine(engine.model, engine.tokenizer, BrokenBackend(), 100)).check()


async def test_local_embedder_answers_until_closed(engine: EmbeddingEngine) -> None:
    embedder = LocalEmbedder(engine)
    assert embedder.space == engine.space
    found = await embedder.embed(["one", "two"])
    np.testing.assert_allclose(found.vectors, engine.embed(["one", "two"]).vectors, atol=1e-5)
    embedder.close()
    embedder.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await embedder.embed(["late"])
