from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.runtime.ray_session import address_of_service
from serve_app.local.run import note_run, run_file
from serve_app.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def test_the_run_of_the_data_folder_is_found(settings: Settings) -> None:
    assert address_of_service(settings) is None
    note_run(settings, mark="m")
    assert address_of_service(settings) is None, "its Ray has not started"
    note_run(settings, mark="m", ray_address="10.0.0.1:6379")
    assert address_of_service(settings) == "10.0.0.1:6379"


def test_a_pid_that_is_anothers_by_now_is_no_run(settings: Settings) -> None:
    note_run(settings, mark="m", ray_address="10.0.0.1:6379")
    record = json.loads(run_file(settings).read_text())
    run_file(settings).write_text(json.dumps({**record, "started_at_s": record["started_at_s"] - 60}))
    assert address_of_service(settings) is None


def test_a_record_that_is_half_written_is_no_run(settings: Settings) -> None:
    run_file(settings).write_text('{"pid": ')
    assert address_of_service(settings) is None
