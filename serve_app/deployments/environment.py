"""The environment of a Ray that this process starts on this machine, which all processes of that Ray inherit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A Ray that is started by `ray.init` asks for a token unless this is set, and Ray's commands send one only if it is set
# to `token` for them too. The user may choose so for all of them (README). Otherwise there is none.
AUTHENTICATION = {"RAY_AUTH_MODE": "disabled"}
# By itself glibc has eight arenas for each CPU, which keep what is free: a gateway grew by a tenth in ten minutes.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}


def is_ray_running(address: str | None = None) -> bool:
    """Whether `ray.init(address)` connects to a Ray, as far as an address tells. If not, it starts one."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address not in {"auto", "local"}:
        return True  # `ray.init` says so if nobody is there
    from ray._private.services import canonicalize_bootstrap_address  # Ray reads the environment when it is imported

    return canonicalize_bootstrap_address(address) is not None  # type: ignore[arg-type]  # None is allowed


def set_for_new_ray() -> None:
    """Before Ray starts. What the user has set stays."""
    for name, value in (AUTHENTICATION | FEW_ARENAS | QUIET).items():
        os.environ.setdefault(name, value)
    commands = str(Path(sys.executable).parent)  # so that `python` in a submitted job is this one
    os.environ["PATH"] = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
