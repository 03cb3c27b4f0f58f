"""Ray + Serve + the app on this machine, as one foreground process that owns all of it and ends all of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from serve_app.errors import ConfigurationError
from serve_app.local.ports import require_free
from serve_app.local.run import end, mark_this_run, note_run, owner, url
from serve_app.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

POLL_PERIOD_S = 0.1


def serve(settings: Settings, application: Callable[[], Application], tell: Callable[[str], None]) -> None:
    """Start all, tell the URL, and block until SIGINT or SIGTERM; then end all.

    Raises ConfigurationError if the port is taken or a run of this data folder is alive, StoreLocked if another
    process has its store, Unavailable if the app does not become ready in START_TIMEOUT_S.
    """
    require_no_run(settings)
    require_own_store(settings)
    require_free(settings.serving.host, settings.serving.port)
    mark = mark_this_run(settings)
    stopped = Stopped()
    stopped.listen()
    try:
        started_s = time.monotonic()
        from serve_app.local import start as local_start

        dashboard = local_start.start(settings, application, partial(note_run, settings, mark))
        stopped.listen()  # again: Ray has put its own handler in place
        local_start.wait_until_ready(settings, dashboard, stopped.is_set)
        if not stopped.is_set():
            tell(f"ready after {time.monotonic() - started_s:.1f} s: {url(settings)}")
        stopped.wait()
        tell("stopping")
    finally:
        end(settings, mark)


def require_no_run(settings: Settings) -> None:
    """One run owns a data folder: a second one could not open the store, and would orphan the first."""
    if process := owner(settings):
        raise ConfigurationError(
            f"{settings.data_dir} is used by a running ai-docs (process {process.pid}): `make stop` ends it; "
            "or choose another folder: AIDOCS_DATA_DIR=…"
        )


def require_own_store(settings: Settings) -> None:
    """Now, and not from a store actor that tries again and again. Raises StoreLocked."""
    if settings.store.url is None:
        from serve_app.store.edge import folders as edge_folders

        edge_folders.lock(settings.data_dir / edge_folders.FOLDER).close()


class Stopped:
    """Whether SIGINT or SIGTERM has come. Without a lock: the handler runs in a thread that might hold it."""

    def __init__(self) -> None:
        self._is_set = False

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, *_: object) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self) -> None:
        """A moment at a time: a signal can be taken by another thread, as of gRPC, which does not wake this one."""
        while not self._is_set:
            time.sleep(POLL_PERIOD_S)
