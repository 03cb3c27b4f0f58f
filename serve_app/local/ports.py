"""Ports for one run on this machine, so that several runs can live side by side."""

from __future__ import annotations

import os
import random
import socket
from itertools import islice

from serve_app.errors import ConfigurationError

# HAProxy opens the first two on all interfaces, whatever is asked for.
SINGLE_PORTS = (
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
# Replicas take ports from a range. As the fallback proxy, they do it with SO_REUSEPORT: two runs that use Ray's
# defaults answer each other's requests. A block has as many ports as a machine has replicas at most.
REPLICA_PORTS = ("RAY_SERVE_DIRECT_INGRESS_{}_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_{}_GRPC_PORT")
BLOCK_PORTS = 100
# Below what systems give to clients, of which one could take a port in the seconds until it is listened on.
SINGLES = range(20_000, 22_000)
BLOCKS = range(22_000, 32_000, BLOCK_PORTS)


def choose_ports() -> None:
    """Set the variables that Ray reads when it is imported; what the user has set stays."""
    for name, port in zip(SINGLE_PORTS, free_ports(len(SINGLE_PORTS)), strict=True):
        os.environ.setdefault(name, str(port))
    for name, first in zip(REPLICA_PORTS, free_blocks(len(REPLICA_PORTS)), strict=True):
        least, most = name.format("MIN"), name.format("MAX")
        if least not in os.environ and most not in os.environ:  # one bound of ours would not fit the user's other
            os.environ[least], os.environ[most] = str(first), str(first + BLOCK_PORTS - 1)


def require_free(host: str, port: int) -> None:
    if not is_free(host, port):
        raise ConfigurationError(
            f"{host}:{port} is in use. `make stop` ends an earlier run of ai-docs; "
            "or choose another port: AIDOCS_SERVING__PORT=8001"
        )


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many, all different, which are in use on no interface."""
    free = (port for port in random.sample(SINGLES, k=len(SINGLES)) if is_free("", port))
    found = list(islice(free, count))
    if len(found) < count:
        raise ConfigurationError(f"no {count} free ports between {SINGLES[0]} and {SINGLES[-1]}")
    return found


def free_blocks(count: int) -> list[int]:
    """The first port of each of as many blocks, all different, of BLOCK_PORTS ports of which none is in use."""
    found: list[int] = []
    for first in random.sample(BLOCKS, k=20):
        if all(is_free("", port) for port in range(first, first + BLOCK_PORTS)):
            found.append(first)
        if len(found) == count:
            return found
    raise ConfigurationError(
        f"{len(found)} of {count} times {BLOCK_PORTS} free ports in a row between {BLOCKS.start} and {BLOCKS.stop}"
    )


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
