"""What the jobs and the benchmarks load: real engines over the real embedded store, closed at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.evaluate.beir import Dataset
from jobs.evaluate.ranking import rank
from serve_app.assembly import load_assembly
from serve_app.embedding.models import resolve_model
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.search.request import SearchRequest
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import LOCAL_PRINCIPAL, Document, Recipe
from tests.tiny_model import tiny_model

ZOO = LOCAL_PRINCIPAL.scope("zoo")
QUESTION = SearchRequest("zoo", "an animal that purrs")
DOCUMENTS = [Document("cats", "Cats purr softly."), Document("dogs", "Dogs bark loudly.")]


@pytest.fixture
def settings(model_data_dir: Path, tmp_path: Path) -> Settings:
    """Of a service that loads two models."""
    second = tiny_model(resolve_model(EmbeddingSettings(), model_data_dir).path, tmp_path / "second", max_tokens=256)
    embedding = EmbeddingSettings(precision="fp32", threads=1, further_models=(str(second),))
    return Settings(data_dir=model_data_dir, embedding=embedding)


async def test_it_indexes_with_the_first_model_and_searches_each_index_with_its_own(
    settings: Settings, tmp_path: Path
) -> None:
    store = EdgeStore.open(tmp_path / "store", settings.store)
    try:
        with load_assembly(settings, store, settings.embedding.of_each) as assembly:
            first, second = assembly.models.values()
            assert (await assembly.indexer().index(ZOO, DOCUMENTS)).indexed == 2
            assert (await store.active_index(ZOO)).recipe.space == first.embedder.space
            await store.make_index(ZOO.at("new"), Recipe(second.embedder.space))
            found = await assembly.searcher().search(LOCAL_PRINCIPAL, QUESTION)
            assert (found.found.hits[0].document_id, found.release) == (
                "cats",
                assembly.release(first.embedder.space).name,
            )
            release = assembly.release(second.embedder.space, "new")
            empty = await assembly.searcher(lambda *_: release).search(LOCAL_PRINCIPAL, QUESTION)
            assert (empty.found.hits, empty.release) == ((), release.name)
            await store.switch(ZOO.at("new"), await store.hold(ZOO, 60))
            assert (await assembly.indexer().index(ZOO, DOCUMENTS)).indexed == 2
            found = await assembly.searcher().search(LOCAL_PRINCIPAL, QUESTION)
            assert (len(found.found.hits), found.release) == (2, release.name)
        for model in (first, second):
            with pytest.raises(EngineUnavailable, match="is closed"):
                await model.embedder.embed(["text"])
    finally:
        await store.close()


async def test_a_model_that_is_named_twice_is_a_wrong_setting_and_what_was_loaded_is_closed(
    settings: Settings, tmp_path: Path
) -> None:
    store = EdgeStore.open(tmp_path / "store", settings.store)
    try:
        twice = [settings.embedding.of_each[1]] * 2
        with (
            pytest.raises(ConfigurationError, match="FURTHER_MODELS names a model that is loaded already: remove it"),
            load_assembly(settings, store, twice),
        ):
            pass
    finally:
        await store.close()


async def test_the_evaluation_ranks_with_it(settings: Settings) -> None:
    judged = Dataset("animals", tuple(DOCUMENTS), {"q": QUESTION.query}, {"q": {"cats": 1}})
    run = await rank(judged, settings, ["default"], lambda *_: None)
    assert run.failed == []
    assert all(ranking["q"][0] == "cats" for mode, ranking in run.rankings["default"].items() if mode != "sparse")
    assert run.space == resolve_model(settings.embedding, settings.data_dir).space
