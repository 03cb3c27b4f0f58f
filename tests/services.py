"""Programs that a test needs and a machine may lack."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require(*names: str) -> str:
    """The path of the first of these programs that is installed, else the test is skipped with the reason.
    With REQUIRE_SERVICES=1, as in CI, it fails instead: nothing is left out unseen."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing(f"{' or '.join(names)} is not installed")


def missing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}, and REQUIRE_SERVICES=1 asks for it")
    pytest.skip(reason)
