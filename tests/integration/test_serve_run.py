"""`serve run serve_app.main:app`, as the developer types it: Ray, Serve's default proxy and the app in one command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.local.ports import is_free
from serve_app.local.run import KEEP_MARK, RUN_MARK
from tests.integration.running import bearing, http, is_ready, poll
from tests.services import missing

PORT = 8000  # Serve's, which the command cannot change
URL = f"http://127.0.0.1:{PORT}"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def mark() -> Iterator[str]:
    """In the environment of all that is started here; whatever bears it at the end is ended."""
    mark = uuid.uuid4().hex
    yield mark
    for process in bearing(mark):
        process.kill()


def test_it_answers_and_sigint_ends_all_of_it(mark: str, tmp_path: Path, model_data_dir: Path) -> None:
    if not is_free("", PORT):
        missing(f"port {PORT} (another program on this machine has it)")
    (tmp_path / "models").symlink_to(model_data_dir / "models")
    command = [str(Path(sys.executable).with_name("serve")), "run", "serve_app.main:app"]
    shared = str(tmp_path / "shared")
    settings = {
        "AIDOCS_DATA_DIR": str(tmp_path),
        "AIDOCS_CACHE__L2__FOLDER": shared,
        "RAY_ADDRESS": "local",
        RUN_MARK: mark,
        **KEEP_MARK,
    }
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=os.environ | settings, cwd=REPOSITORY, stdout=log, stderr=log) as running,
    ):
        try:
            poll(lambda: running.poll() is not None or is_ready(URL), timeout_s=120)
            assert running.poll() is None, (tmp_path / "log").read_text()
            collection = f"{URL}/v1/collections/handbook"
            document = {"id": "leave", "text": "Employees have 25 days of holiday."}
            status, answer = http("POST", f"{collection}/documents", {"documents": [document]})
            assert (status, answer["indexed"]) == (200, 1), answer
            status, answer = http("POST", f"{collection}/search", {"query": "how many vacation days?"})
            assert [hit["document_id"] for hit in answer["hits"]] == ["leave"], (status, answer)
            assert len(bearing(mark)) > 3  # else the end of them would prove nothing
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)
    poll(lambda: not bearing(mark), timeout_s=30)
