from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import pytest

from serve_app.deployments.environment import is_ray_running, set_for_new_ray


@pytest.mark.parametrize(("address", "runs"), [("local", False), ("10.0.0.1:6379", True), ("ray://head:10001", True)])
def test_an_address_says_whether_a_ray_is_started(address: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert is_ray_running(address) is runs
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert is_ray_running() is runs


def test_a_new_ray_asks_for_no_token_unless_the_user_wants_one() -> None:
    for chosen, mode in ((None, "disabled"), ("token", "token")):
        with mock.patch.dict(os.environ):
            os.environ.pop("RAY_AUTH_MODE", None)
            if chosen:
                os.environ["RAY_AUTH_MODE"] = chosen
            set_for_new_ray()
            assert os.environ["RAY_AUTH_MODE"] == mode
            assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
