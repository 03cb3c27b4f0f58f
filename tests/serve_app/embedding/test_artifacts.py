import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.embedding import artifacts
from serve_app.embedding.artifacts import artifact_name, ensure_artifact, find_artifact, publish
from serve_app.embedding.engine import prepare
from serve_app.embedding.models import Model, resolve_model
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings
from tests.serve_app.embedding.conftest import SavesModel

START = """
import sys
from pathlib import Path
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings
engine = EmbeddingEngine.load(EmbeddingSettings(model=sys.argv[1]), Path(sys.argv[2]))
print(engine.embed(["one text"]).vectors[0, :4].tolist(), "torch" in sys.modules)
"""


@pytest.fixture
def model(default_model: Model, tmp_path: Path) -> Model:
    """The default model, not yet converted."""
    return replace(default_model, cache_dir=tmp_path / "cache")


def partials(model: Model) -> list[Path]:
    return list(model.cache_dir.glob(".partial-*"))


@pytest.mark.timeout(900)  # two starts and a conversion, on a machine that may be busy
def test_two_processes_that_start_at_once_share_one_artifact(tmp_path: Path, save_tiny_model: SavesModel) -> None:
    path = save_tiny_model(tmp_path)
    command = [sys.executable, "-c", START, str(path), str(tmp_path / "data")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=400) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert answers[0][0].endswith("False\n")  # torch was in the child only
    model = resolve_model(EmbeddingSettings(model=str(path)), tmp_path / "data")
    assert partials(model) == []
    assert find_artifact(model, "fp32") is not None


def test_all_models_of_the_settings_are_prepared(
    model_data_dir: Path, tmp_path: Path, save_tiny_model: SavesModel
) -> None:
    settings = EmbeddingSettings(precision="fp32", further_models=(str(save_tiny_model(tmp_path)),))
    prepare(settings, model_data_dir)
    for each in settings.of_each:
        assert find_artifact(resolve_model(each, model_data_dir), "fp32") is not None


def test_half_made_folder_is_not_an_artifact(model: Model) -> None:
    half = model.cache_dir / ".partial-killed"
    half.mkdir(parents=True)
    (half / "model.xml").write_text("<net")
    assert find_artifact(model, "fp32") is None


def test_the_first_of_two_is_kept(tmp_path: Path) -> None:
    final = tmp_path / artifact_name("fp32")
    for content in ("first", "second"):
        partial = tmp_path / f".partial-{content}"
        partial.mkdir()
        (partial / "model.xml").write_text(content)
        assert publish(partial, final) == final
    assert (final / "model.xml").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == [final.name]


def test_failed_conversion_says_why_and_leaves_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "CONVERTER", "serve_app.absent")
    with pytest.raises(ConfigurationError, match=r"serve_app\.absent"):
        ensure_artifact(model, "fp32")
    assert find_artifact(model, "fp32") is None
    assert partials(model) == []


def test_conversion_has_an_end(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "CONVERSION_TIMEOUT_S", 0.05)
    with pytest.raises(EngineUnavailable, match="not converted within"):
        ensure_artifact(model, "fp32")
    assert partials(model) == []


def test_folder_that_cannot_be_written(default_model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write the converted model"):
        ensure_artifact(replace(default_model, cache_dir=tmp_path / "file" / "cache"), "fp32")


def test_name_says_what_made_it() -> None:
    import openvino

    version = openvino.__version__.split("-")[0]
    assert artifact_name("int8").startswith(f"openvino-{version}")
    assert artifact_name("int8") != artifact_name("fp32")
