"""Runs the service and its references on one Ray cluster behind one proxy, so that nothing else differs between them.

The service is at `/`, three deployments are at `/peer`, and a handler that does nothing is at `/empty`.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from serve_app.__main__ import application
from serve_app.local import run as local
from serve_app.settings import Settings
from serve_app.types import Scope, VectorSpace


@contextmanager
def applications(settings: Settings, peer_dir: Path, scope: Scope, space: VectorSpace) -> Iterator[str]:
    """Yields their common address. peer_dir: a copy of the store for the three deployments."""
    os.environ["AIDOCS_DATA_DIR"] = str(settings.data_dir)  # the application reads its settings from the environment
    os.environ["AIDOCS_SERVING__MAX_REPLICAS"] = str(settings.serving.max_replicas)
    mark = local.mark_this_run(settings)
    try:
        from serve_app.local import start as local_start

        dashboard = local_start.start(settings, application, partial(local.note_run, settings, mark))
        local_start.wait_until_ready(settings, dashboard, lambda: False)
        from ray import serve

        from tests.bench import empty_handler, three_deployments

        peer = three_deployments.build(settings, peer_dir, scope, space)
        serve.run(peer, name="peer", route_prefix="/peer")
        serve.run(empty_handler.build(), name="empty", route_prefix="/empty")
        for path in ("peer/search", "empty"):
            wait_until_it_answers(f"{local.url(settings)}/{path}")
        yield local.url(settings)
    finally:
        local.end(settings, mark)


def wait_until_it_answers(url: str, body: bytes = b'{"query": "x"}') -> None:
    """Waits until a server has loaded its model and the proxy knows the new application."""
    deadline_s = time.monotonic() + 60
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    while True:
        try:
            local.open_directly(request, timeout_s=10).close()
            return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{url} does not answer: {error}") from error
        time.sleep(0.1)


os.environ.setdefault("HF_HUB_OFFLINE", "1")
