"""What many tests share."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from serve_app.embedding.artifacts import ensure_artifact
from serve_app.embedding.models import resolve_model
from serve_app.settings import EmbeddingSettings
from tests import services

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never go to the network
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home folder
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; without it a warning
os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # the least; else tests of metrics wait for 10 s

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("ai-docs", deadline=None)
hypothesis.settings.load_profile("ai-docs")

# A folder kept between runs, so that the default model is converted once. Taken out of the environment, where
# load_settings would refuse the name.
TEST_CACHE = os.environ.pop("AIDOCS_TEST_CACHE", None)

# A shell starts a background command with SIGINT ignored, and children inherit that. A handler is reset to the default
# in a child, so tests of Ctrl-C work however the tests were started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what `make test-fast` leaves out: tests that use a fixture which takes seconds to start."""
    if set(getattr(item, "fixturenames", ())) & services.SLOW_FIXTURES:
        item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    services.may_start = item.get_closest_marker("slow") is not None


def pytest_collection_finish() -> None:
    leave_out_of_collections()


@pytest.fixture(scope="module", autouse=True)
def small_collections() -> Iterator[None]:
    yield
    leave_out_of_collections()


def leave_out_of_collections() -> None:
    """Freezes what lives now; cycles of it are never freed. Python's collector goes through all that a process has,
    which is a million objects towards the end, and stops every thread for that: a second, which is longer than some
    leases and timeouts in tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # of xdist, whose workers do not find what was taken out of the environment
def pytest_configure_node(node: Any) -> None:
    node.workerinput["test_cache"] = TEST_CACHE


@pytest.fixture(scope="session")
def model_data_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir of this process in which the default model is already converted (fp32). All workers share the
    converted models: `ensure_artifact` makes the others wait for the first."""
    worker: dict[str, Any] | None = getattr(request.config, "workerinput", None)
    base = tmp_path_factory.getbasetemp()
    kept = worker["test_cache"] if worker else TEST_CACHE
    models = (Path(kept).resolve() if kept else base.parent if worker else base) / "models"
    models.mkdir(parents=True, exist_ok=True)
    data_dir = tmp_path_factory.mktemp("model-data")
    (data_dir / "models").symlink_to(models)
    ensure_artifact(resolve_model(EmbeddingSettings(), data_dir), "fp32")
    return data_dir


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of the session's one Ray, which this process is connected to."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,  # what Ray does with one, it does without: it only counts them
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        namespace="ai-docs",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield str(context.address_info["address"])
    ray.shutdown()
