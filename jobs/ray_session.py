"""A job's connection to Ray: the cluster which serves, or one of its own for as long as the job runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from serve_app.deployments.local import OBJECT_STORE_BYTES, QUIET, owner_of, read_run
from serve_app.deployments.store import NAMESPACE
from serve_app.errors import Unavailable
from serve_app.settings import Settings

# Of tasks and metrics, for a dashboard that is not there: that grew by 5 KB a task and by 10 MiB a minute.
RECORD_NOTHING = {"task_events_report_interval_ms": 0, "enable_metrics_collection": False}


@contextmanager
def ray_session(address: str | None, settings: Settings) -> Iterator[None]:
    """Connected to Ray inside. A connection that is there already is used and left as it is.

    address: of a cluster; "local" starts one; None takes, in this order, RAY_ADDRESS (set inside `ray job submit`),
    the cluster of the service that runs on the data folder, one of `ray start` on this machine, a new local one.
    Raises Unavailable if the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        connect(address or os.environ.get("RAY_ADDRESS") or address_of_service(settings))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Unavailable(f"no connection to Ray at {address or 'the running cluster'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str | None) -> None:
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address not in {None, "local"}:
        ray.init(address=address, **common)
        return
    try:
        ray.init(
            address=address,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _system_config=RECORD_NOTHING,
            **common,
        )
    except ValueError:  # None has found a running cluster, which has its own memory
        ray.init(**common)


def address_of_service(settings: Settings) -> str | None:
    """The Ray of the `python -m serve_app serve` that owns this data folder, if it runs."""
    record = read_run(settings)
    if record is None or owner_of(record) is None:
        return None
    return record.get("ray_address")  # absent while the service begins to start
