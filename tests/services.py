"""Programs that a test needs and a machine may lack."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

# Fixtures that take seconds to start. tests/conftest.py marks every test that uses one as slow.
SLOW_FIXTURES = frozenset({"ray_cluster", "service", "job_cluster", "model_data_dir", "origin", "browser"})

may_start = True  # whether the running test is marked as slow; tests/conftest.py sets it


def require(*names: str) -> str:
    """The path of the first of these programs that is installed, else the test is skipped with the reason.
    With REQUIRE_SERVICES=1, as in CI, the test fails instead, so that nothing is left out unseen. A test that is not
    marked as slow fails: `make test-fast` must not start servers."""
    if not may_start:
        pytest.fail(f"this test starts {names[0]}: mark it with @pytest.mark.slow, so that test-fast leaves it out")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing(f"{' or '.join(names)} is not installed")


def missing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}, and REQUIRE_SERVICES=1 asks for it")
    pytest.skip(reason)
