"""Environment variables for a local Ray cluster that this process starts. All processes of the cluster inherit them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# By default a cluster that `ray.init` starts requires a token, but Ray's commands send one only if RAY_AUTH_MODE is
# `token` for them too. Authentication is therefore off unless the user sets that variable for all of them (README).
AUTHENTICATION = {"RAY_AUTH_MODE": "disabled"}
# Glibc has eight arenas for each CPU by default, and they keep freed memory: a gateway grew by a tenth in ten minutes.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}


def is_ray_running(address: str | None = None) -> bool:
    """Whether `ray.init(address)` would connect to a running cluster; it would start one otherwise. An explicit address
    counts as running without a check."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address not in {"auto", "local"}:
        return True  # `ray.init` raises if it cannot connect
    from ray._private.services import canonicalize_bootstrap_address  # Ray reads the environment when it is imported

    return canonicalize_bootstrap_address(address) is not None  # type: ignore[arg-type]  # None is allowed


def set_for_new_ray() -> None:
    """Set the variables; call this before Ray starts. Variables that the user has set stay."""
    for name, value in (AUTHENTICATION | FEW_ARENAS | QUIET).items():
        os.environ.setdefault(name, value)
    commands = str(Path(sys.executable).parent)  # so that submitted jobs run this Python
    os.environ["PATH"] = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
