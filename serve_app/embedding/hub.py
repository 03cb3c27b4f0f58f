"""Models from the Hugging Face hub: what is at hand first, then a download."""

from __future__ import annotations

from pathlib import Path

from serve_app.errors import ConfigurationError, EngineUnavailable

FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin", "*/pytorch_model.bin"]
OTHER_FORMATS = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*", "*.msgpack", "*.h5"]
ANSWER_TIMEOUT_S = 10.0


def snapshot(repository: str, revision: str | None) -> Path:
    """Folder of that repository's files; its name is the commit.

    A snapshot on this machine is taken as it is, so that a start neither needs the network nor changes the model.
    Raises EngineUnavailable if it must be downloaded and cannot, ConfigurationError if there is no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(*, local_files_only: bool) -> Path:
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

    try:
        path = fetch(local_files_only=True)
        if any(path.rglob("*.safetensors")) or any(path.rglob("*.bin")):
            return path
    except LocalEntryNotFoundError:
        pass
    try:
        return fetch(local_files_only=False)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ConfigurationError(f"the Hugging Face hub has no model {repository}{at}, or it is private") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise EngineUnavailable(
            f"model {repository} is not on this machine and the Hugging Face hub cannot be reached: set "
            "AIDOCS_EMBEDDING__MODEL to a folder, install a package with the model, or allow the download"
        ) from error
