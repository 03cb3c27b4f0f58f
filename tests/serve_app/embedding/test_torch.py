"""The torch engine on its device. GPU tests run only on machines that have a GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from serve_app.embedding.backends.torch import precision_on
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings
from tests.serve_app.embedding.texts import golden_texts

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and transformers' own
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def on_cuda(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingEngine:
    return EmbeddingEngine.load(EmbeddingSettings(engine="torch", device="cuda"), tmp_path_factory.mktemp("data"))


def test_precision_is_what_was_asked_for_or_the_devices_best(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_on("bf16", "cpu") == "bf16"
    assert precision_on("auto", "cpu") == precision_on("auto", "mps") == "fp32"
    for computes_in_it, best in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, it=computes_in_it: it)
        assert precision_on("auto", "cuda") == best
    with pytest.raises(ConfigurationError, match="fp32 or bf16, not in int8"):
        precision_on("int8", "cuda")


@needs_cuda
def test_a_gpu_answers_as_the_cpu_does_in_fp32(on_cuda: EmbeddingEngine, tmp_path: Path) -> None:
    assert on_cuda.precision == "bf16"
    texts = golden_texts()
    reference = EmbeddingEngine.load(EmbeddingSettings(engine="torch", device="cpu"), tmp_path).embed(texts).vectors
    assert (on_cuda.embed(texts).vectors * reference).sum(axis=1).min() >= 0.999
    exact = EmbeddingEngine.load(EmbeddingSettings(engine="torch", device="cuda", precision="fp32"), tmp_path)
    assert (exact.embed(texts).vectors * reference).sum(axis=1).min() >= 0.9999


@needs_cuda
def test_passes_on_a_gpu_at_once_do_not_mix(on_cuda: EmbeddingEngine) -> None:
    texts = [[f"text {i} of thread {t} " * (i + 1) for i in range(40)] for t in range(8)]
    alone = [on_cuda.embed(some).vectors for some in texts]
    with ThreadPoolExecutor(8) as pool:
        together = [found.vectors for found in pool.map(on_cuda.embed, texts * 5)]
    for number, vectors in enumerate(together):
        assert (vectors * alone[number % 8]).sum(axis=1).min() > 0.999


@needs_cuda
def test_too_large_a_pass_for_a_gpus_memory_says_so_and_the_next_is_answered(on_cuda: EmbeddingEngine) -> None:
    encodings = on_cuda.tokenizer.encode(["word " * 300] * 64)
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(EngineUnavailable, match="AIDOCS_EMBEDDING__MAX_BATCH_TOKENS below"):
            on_cuda.infer(encodings * 64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(np.linalg.norm(on_cuda.infer(encodings), axis=1), 1, atol=1e-3)
