"""Complete and incomplete snapshots in the hub's cache layout, without the hub and with a server for its API."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, file_download

from serve_app.embedding.hub import missing_files, snapshot
from serve_app.errors import ConfigurationError, EngineUnavailable

REPOSITORY, COMMIT = "acme/tiny", "1234567890123456789012345678901234567890"
KINDS = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
MODULES = json.dumps([{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in KINDS.items()])
SHARDS = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
MODEL = {
    "modules.json": MODULES,
    "config_sentence_transformers.json": "{}",
    "config.json": "{}",
    "tokenizer.json": "{}",
    "model.safetensors": "weights",
    "1_Pooling/config.json": "{}",
    "2_Dense/config.json": "{}",
    "2_Dense/model.safetensors": "other weights",
}
SHARDED = {name: text for name, text in MODEL.items() if name != "model.safetensors"} | {
    "model.safetensors.index.json": SHARDS,
    "model-1.safetensors": "weights",
    "model-2.safetensors": "weights",
}
BARE = {"config.json": "{}", "vocab.txt": "word", "pytorch_model.bin": "weights"}


def save(folder: Path, files: dict[str, str], *, without: str = "") -> Path:
    for name, text in files.items():
        if name != without:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's folder in an empty cache, whose `main` is the commit."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return save(tmp_path / "hub" / "models--acme--tiny", {"refs/main": COMMIT})


@dataclass
class Hub:
    """The routes of the hub that a download uses, on this machine. broken: a file that breaks off."""

    files: dict[str, str]
    broken: str = ""
    sent: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[str, dict[str, str]] | None:
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            entries = [{"type": "file", "path": n, "size": len(t), "oid": tag(t)} for n, t in self.files.items()]
            return json.dumps(entries), {}
        if path.startswith(f"/api/models/{REPOSITORY}"):
            return json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": []}), {}
        text = self.files.get(path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/"))
        return None if text is None else (text, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag(text)}"'})


def tag(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            if (text := self._head()) and not (hub.broken and self.path.endswith(hub.broken)):
                hub.sent.append(self.path)
                self.wfile.write(text.encode())

        def _head(self) -> str:
            text, headers = hub.answer(self.path) or ("", {})
            self.send_response(200 if text else 404)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            return text

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Hub], None]]:
    """Starts a hub and makes it the one that downloads come from."""
    servers: list[ThreadingHTTPServer] = []

    def start(hub: Hub) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("files", [MODEL, SHARDED, BARE], ids=["pipeline", "shards", "bare"])
def test_a_whole_snapshot_is_taken_without_the_hub(files: dict[str, str], cache: Path) -> None:
    whole = save(cache / "snapshots" / COMMIT, files)
    assert snapshot(REPOSITORY, None) == whole == snapshot(REPOSITORY, COMMIT)


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        *[(MODEL, name) for name in MODEL if name != "config_sentence_transformers.json"],
        *[(SHARDED, name) for name in ("model-1.safetensors", "model-2.safetensors")],
        *[(BARE, name) for name in ("config.json",)],
    ],
)
def test_a_part_is_refused_without_the_hub(files: dict[str, str], lost: str, cache: Path) -> None:
    save(cache / "snapshots" / COMMIT, files, without=lost)
    for revision in (None, COMMIT):
        with pytest.raises(EngineUnavailable, match=f"incomplete on this machine .* no {lost}.*cannot be reached"):
            snapshot(REPOSITORY, revision)


@pytest.mark.parametrize(("lost", "instead"), [("vocab.txt", "tokenizer.json"), ("pytorch_model.bin", "model.safeten")])
def test_what_may_have_several_names_is_asked_for_by_its_usual_one(lost: str, instead: str, tmp_path: Path) -> None:
    [missing] = missing_files(save(tmp_path, BARE, without=lost))
    assert missing.startswith(instead)


def test_a_module_that_cannot_run_is_not_judged(tmp_path: Path) -> None:
    modules = json.dumps([{"type": "sentence_transformers.models.StaticEmbedding", "path": ""}])
    assert missing_files(save(tmp_path, {"modules.json": modules})) == []


def test_a_file_that_the_hub_lists_is_needed_too(cache: Path) -> None:
    """A download of ours keeps the hub's list of files, and the library judges by it."""
    entries = {name: {"size": len(text), "blob_id": tag(text)} for name, text in MODEL.items()}
    entries["sentence_bert_config.json"] = {"size": 2, "blob_id": tag("{}")}
    save(cache, {f"trees/{COMMIT}.json": json.dumps({"format_version": 1, "files": entries})})
    save(cache / "snapshots" / COMMIT, MODEL)
    with pytest.raises(EngineUnavailable, match="incomplete on this machine"):
        snapshot(REPOSITORY, None)


@pytest.mark.parametrize("lost", ["model.safetensors", "modules.json"])
def test_a_part_is_completed_from_the_hub(lost: str, cache: Path, serve: Callable[[Hub], None]) -> None:
    hub = Hub(MODEL)
    serve(hub)
    path = save(cache / "snapshots" / COMMIT, MODEL, without=lost)
    assert snapshot(REPOSITORY, None) == path
    assert (path / lost).read_text() == MODEL[lost]
    assert [sent for sent in hub.sent if "/resolve/" in sent] == [f"/{REPOSITORY}/resolve/{COMMIT}/{lost}"]


def test_a_download_that_breaks_off_is_gone_on_with(
    cache: Path, serve: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))  # between its five tries
    hub = Hub(MODEL, broken="2_Dense/model.safetensors")
    serve(hub)
    with pytest.raises(EngineUnavailable, match="is not on this machine"):
        snapshot(REPOSITORY, None)
    with pytest.raises(EngineUnavailable, match="incomplete on this machine"):
        snapshot(REPOSITORY, None)
    hub.broken = ""
    path = snapshot(REPOSITORY, None)
    assert {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} == MODEL.keys()
    resolved = [sent for sent in hub.sent if "/resolve/" in sent]
    assert len(resolved) == len(set(resolved))  # no file is sent twice


def test_a_model_that_is_not_whole_on_the_hub_cannot_be(cache: Path, serve: Callable[[Hub], None]) -> None:
    serve(Hub({name: text for name, text in MODEL.items() if name != "model.safetensors"}))
    with pytest.raises(ConfigurationError, match=r"has no model\.safetensors"):
        snapshot(REPOSITORY, None)


def test_a_name_that_the_hub_cannot_have() -> None:
    with pytest.raises(ConfigurationError, match="acme--tiny/x cannot be a model"):
        snapshot("acme--tiny/x", None)
