"""Ports that are free in truth, for several runs on one machine."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from unittest import mock

import pytest

from serve_app.errors import ConfigurationError
from serve_app.local import ports as local_ports
from serve_app.local.ports import BLOCK_PORTS, REPLICA_PORTS, SINGLE_PORTS

BOUNDS = [(name.format("MIN"), name.format("MAX")) for name in REPLICA_PORTS]


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """Ray's own variables unset; all is put back afterwards."""
    with mock.patch.dict(os.environ):
        for name in (*SINGLE_PORTS, *(name for bounds in BOUNDS for name in bounds)):
            os.environ.pop(name, None)
        yield os.environ  # type: ignore[misc]  # a mapping of str to str, and all that is needed


def listener(host: str = "127.0.0.1", *, reuse_port: bool = False) -> closing[socket.socket]:
    return closing(socket.create_server((host, 0), reuse_port=reuse_port))


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_is_free_once_its_listener_is_gone(reuse_port: bool) -> None:
    """Also one that was taken with SO_REUSEPORT, as Ray's replicas do it, which would let a second run in."""
    with listener(reuse_port=reuse_port) as server:
        port = port_of(server)
        assert not local_ports.is_free("127.0.0.1", port)
        assert not local_ports.is_free("", port), "on all interfaces it is taken too"
    assert local_ports.is_free("127.0.0.1", port)


def test_a_taken_port_is_refused_with_what_to_do() -> None:
    with listener() as server:
        port = port_of(server)
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} is in use.*make stop.*SERVING__PORT"):
            local_ports.require_free("127.0.0.1", port)
    local_ports.require_free("127.0.0.1", port)


def test_free_ports_differ_and_are_none_that_the_system_gives_away() -> None:
    ports = local_ports.free_ports(50)
    with listener() as server:
        assert len(set(ports)) == 50 and max(ports) < port_of(server)
    with closing(socket.create_server(("", ports[0]))):
        assert not local_ports.is_free("", ports[0])


def test_a_block_with_one_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = local_ports.free_blocks(2)
    with listener() as server:
        taken = port_of(server) - BLOCK_PORTS // 2
        monkeypatch.setattr(random, "sample", lambda *_, **__: [one, taken, two])
        assert local_ports.free_blocks(2) == [one, two]
        monkeypatch.setattr(random, "sample", lambda *_, **__: [one, taken])
        with pytest.raises(ConfigurationError, match=f"1 of 2 times {BLOCK_PORTS} free ports in a row"):
            local_ports.free_blocks(2)


def test_every_port_is_chosen_and_the_replicas_have_a_block_for_each_protocol(environ: dict[str, str]) -> None:
    local_ports.choose_ports()
    assert all(local_ports.is_free("127.0.0.1", int(environ[name])) for name in SINGLE_PORTS)
    http, grpc = (range(int(environ[least]), int(environ[most]) + 1) for least, most in BOUNDS)
    assert len(http) == len(grpc) == BLOCK_PORTS and not set(http) & set(grpc)
    for block in (http, grpc):
        assert block[0] in local_ports.BLOCKS


def test_what_the_user_has_set_stays_and_one_bound_gets_no_other_of_ours(environ: dict[str, str]) -> None:
    (http_least, http_most), (grpc_least, grpc_most) = BOUNDS
    wanted = {SINGLE_PORTS[0]: "1234", http_least: "5000", http_most: "5010", grpc_least: "40500"}
    environ.update(wanted)
    local_ports.choose_ports()
    assert {name: environ[name] for name in wanted} == wanted
    assert grpc_most not in environ, "Ray's own default"
