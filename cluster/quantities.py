"""Kubernetes quantities: bytes and CPUs as its API writes them."""

from __future__ import annotations

MIB = 1024**2
GIB = 1024**3


def memory(size_bytes: int) -> str:
    """`16Gi`, or `512Mi` where that is no whole number of GiB. Rounded up to whole MiB."""
    if size_bytes % GIB == 0:
        return f"{size_bytes // GIB}Gi"
    return f"{-(-size_bytes // MIB)}Mi"


def cpu(count: float) -> str:
    """`4`, or `500m` for half a CPU."""
    return str(int(count)) if count == int(count) else f"{round(count * 1000)}m"
