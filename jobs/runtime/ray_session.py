"""A job's connection to Ray: the cluster which serves, or one of its own for as long as the job runs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from serve_app.deployments import environment
from serve_app.deployments.store import NAMESPACE
from serve_app.errors import Unavailable
from serve_app.local.run import OBJECT_STORE_BYTES, owner_of, read_run
from serve_app.settings import Settings

# Of tasks and metrics, for a dashboard that is not there: that grew by 5 KB a task and by 10 MiB a minute.
RECORD_NOTHING = {"task_events_report_interval_ms": 0, "enable_metrics_collection": False}


@contextmanager
def ray_session(address: str | None, settings: Settings) -> Iterator[None]:
    """Connected to Ray inside. A connection that is there already is used and left as it is.

    address: of a cluster; "local" starts one; None takes, in this order, RAY_ADDRESS (set inside `ray job submit`),
    the cluster of the service that runs on the data folder, one of `ray start` on this machine, a new local one.
    Raises Unavailable if the cluster cannot be reached, KeyboardInterrupt at a SIGTERM while it connects. After that
    SIGTERM does what it did before: Ray's own handler would end the process.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in environment.QUIET.items():
        os.environ.setdefault(name, value)
    # A driver whose parent is process 1, orphaned by `ray job stop` or in a container under an init, is told by this
    # that its raylet is not dead; Ray looks at the parent else, and may end the process within ray.shutdown().
    os.environ.setdefault("RAY_RAYLET_PID", str(os.getpid()))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        connect(address or os.environ.get("RAY_ADDRESS") or address_of_service(settings))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Unavailable(f"no connection to Ray at {address or 'the running cluster'}: {error}") from error
    except SystemExit:  # of Ray's handler
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str | None) -> None:
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if environment.is_ray_running(address):
        ray.init(address=address, **common)
        return
    environment.set_for_new_ray()
    ray.init(
        address="local",
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        _system_config=RECORD_NOTHING,
        **common,
    )


def address_of_service(settings: Settings) -> str | None:
    """The Ray of the `python -m serve_app serve` that owns this data folder, if it runs."""
    record = read_run(settings)
    if record is None or owner_of(record) is None:
        return None
    return record.get("ray_address")  # absent while the service begins to start
