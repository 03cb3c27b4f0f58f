"""Cross-encoders return the scores of sentence-transformers in any batch, and other models are refused when the service
starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from serve_app.embedding.cross_encoder import LocalReranker, load_rerankers, prepare_rerankers
from serve_app.embedding.models import resolve_cross_encoder, resolve_model
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings, SearchProfile, SearchSettings, Settings
from serve_app.types import Lane
from tests.cross_encoders import MAX_TOKENS, reference_scores, save_cross_encoder
from tests.serve_app.embedding.texts import golden_texts

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer warns of what the check after conversion settles

QUERY = "how are the keys of the cache rotated?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model_data_dir: Path) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("cross-encoder") / "tiny", model_data_dir)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """As the command that starts the service leaves it."""
    made = tmp_path_factory.mktemp("data")
    prepare_rerankers(settings_of(folder, made))
    assert list(resolve_cross_encoder(str(folder), None, made).cache_dir.glob("openvino-*-fp32/model.xml"))
    return made


def settings_of(folder: Path | str, data_dir: Path, **embedding: object) -> Settings:
    profile = SearchProfile(rerank_model=str(folder))
    return Settings(
        data_dir=data_dir,
        embedding=EmbeddingSettings.model_validate({"precision": "fp32", "threads": 2, **embedding}),
        search=SearchSettings(profiles={"precise": profile, "deep": profile}),
    )


@pytest.fixture
async def reranker(folder: Path, data_dir: Path) -> AsyncIterator[LocalReranker]:
    loaded = load_rerankers(settings_of(folder, data_dir))
    assert loaded.keys() == {"precise", "deep"}
    assert loaded["precise"] is loaded["deep"]
    yield loaded["precise"]
    await asyncio.to_thread(loaded["precise"].close)


async def test_scores_are_those_of_sentence_transformers(folder: Path, reranker: LocalReranker) -> None:
    """Passages of no to more tokens than the model takes, which are cut."""
    passages = golden_texts()[::3]
    expected = reference_scores(folder, QUERY, passages)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(await reranker.score(QUERY, passages), expected, atol=1e-4)


async def test_a_score_is_the_same_alone_and_among_others(reranker: LocalReranker) -> None:
    passages = golden_texts()[:60]
    together, other = await asyncio.gather(
        reranker.score(QUERY, passages), reranker.score("another question", passages, Lane.BULK)
    )
    alone = [float((await reranker.score(QUERY, [passage]))[0]) for passage in passages[::7]]
    np.testing.assert_allclose(together[::7], alone, atol=1e-4)
    assert np.abs(together - other).max() > 0.1
    assert (await reranker.score(QUERY, [])).shape == (0,)


async def test_a_long_query_leaves_room_for_the_passage(reranker: LocalReranker) -> None:
    """Only the passage is cut, unless the query alone is half of what the model sees."""
    long = "word " * 1_000
    one, other = await reranker.score(long, ["the first", "an entirely different passage"])
    assert one != other
    engine = reranker._engine
    for query, passage in (("short", long), (long, long), (long, "short"), ("", ""), ("\ud800", "\udfff")):
        [pair] = engine.tokenizer.encode_pairs(query, [passage])
        assert len(pair.ids) <= MAX_TOKENS
        of_query = sum(segment == 0 for segment in pair.type_ids) - 2
        assert of_query == min(len(engine.tokenizer.token_spans(query)), MAX_TOKENS // 2)


async def test_health_and_closing(reranker: LocalReranker) -> None:
    await reranker.check()
    reranker.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await reranker.score(QUERY, ["late"])


def test_a_folder_of_cross_encoder_is_taken_as_well(
    folder: Path, data_dir: Path, tmp_path: Path, model_data_dir: Path
) -> None:
    """sentence-transformers 5 and later writes modules.json."""
    saved = save_cross_encoder(tmp_path / "saved", model_data_dir, by_sentence_transformers=True)
    assert (saved / "modules.json").is_file()
    model = resolve_cross_encoder(str(saved), None, tmp_path)
    assert (model.task, model.dim, model.max_tokens) == ("rerank", 1, MAX_TOKENS)
    assert model.cache_dir != resolve_cross_encoder(str(folder), None, data_dir).cache_dir


@pytest.mark.parametrize("how", [{"engine": "torch", "device": "cpu"}, {"precision": "bf16"}])
async def test_other_arithmetic(how: dict[str, object], folder: Path, data_dir: Path) -> None:
    reranker = load_rerankers(settings_of(folder, data_dir, **how))["precise"]
    passages = golden_texts()[60:90]
    scores, expected = await reranker.score(QUERY, passages), reference_scores(folder, QUERY, passages)
    reranker.close()
    assert np.corrcoef(scores, expected)[0, 1] > 0.99
    assert reranker.identity.startswith(f"{folder.name}@")


def test_auto_is_never_int8(folder: Path, data_dir: Path) -> None:
    reranker = load_rerankers(settings_of(folder, data_dir, precision="auto"))["precise"]
    assert reranker.identity.split()[-1] in {"bf16", "fp32"}
    reranker.close()


def test_what_cannot_rerank_says_why(tmp_path: Path, model_data_dir: Path) -> None:
    three = save_cross_encoder(tmp_path / "three", model_data_dir, labels=3)
    embedding = resolve_model(EmbeddingSettings(), model_data_dir).path
    for model, message in (
        (three, "returns 3 labels"),
        (embedding, "is not a cross-encoder"),
        (tmp_path / "absent", "neither a folder"),
        ("acme/absent", "is not on this machine and the Hugging Face hub cannot be reached"),
    ):
        for use in (load_rerankers, prepare_rerankers):
            with pytest.raises(ConfigurationError, match=f"rerank_model of search profile 'precise': .*{message}"):
                use(settings_of(model, tmp_path))


def test_another_revision_than_asked_for_is_not_taken(folder: Path, data_dir: Path) -> None:
    right = resolve_cross_encoder(str(folder), None, data_dir).revision
    assert resolve_cross_encoder(str(folder), right, data_dir).revision == right
    with pytest.raises(ConfigurationError, match=right):
        resolve_cross_encoder(str(folder), "0" * 40, data_dir)
