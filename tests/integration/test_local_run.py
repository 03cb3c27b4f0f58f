"""`python -m serve_app start` … `stop`: the whole service in its own processes, as `make demo` runs it."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from serve_app.local.ports import free_port
from tests.integration.running import DRAIN_S, Run, bearing, http, is_ready, poll, run
from tests.integration.uploads import missing_documents, slow_upload, uploading

MIB = 1024 * 1024
DOCUMENTS = [
    {"id": "leave", "title": "Leave", "text": "Employees have 25 days of holiday.", "metadata": {"team": "hr"}},
    {
        "id": "expenses",
        "title": "Expenses",
        "text": "Hand in receipts within a month.",
        "metadata": {"team": "finance"},
    },
]


@pytest.fixture(scope="module", autouse=True)
def handbook(service: Run) -> Iterator[None]:
    collection = f"{service.url}/v1/collections/handbook"
    status, answer = http("POST", f"{collection}/documents", {"documents": DOCUMENTS})
    assert (status, answer) == (200, {"indexed": 2, "passages": 2, "unchanged": 0, "failed": []})
    yield
    assert http("DELETE", collection)[0] == 200


def search(url: str, query: str = "how many vacation days?") -> list[str]:
    status, answer = http("POST", f"{url}/v1/collections/handbook/search", {"query": query})
    assert status == 200, answer
    return [hit["document_id"] for hit in answer["hits"]]


def test_a_document_is_found_right_after_200(service: Run) -> None:
    assert search(service.url)[0] == "leave"
    assert http("GET", f"{service.url}/health/ready")[0] == 200


def test_while_it_starts_it_is_not_there_or_not_ready_and_never_broken(service: Run) -> None:
    """404: Serve's own, before it knows the application."""
    assert 200 in service.start_statuses
    assert service.start_statuses <= {200, 404, 503}


def test_stop_from_another_folder_names_it_and_leaves_it(service: Run, tmp_path: Path) -> None:
    other = Run(service.url, service.environ | {"AIDOCS_DATA_DIR": str(tmp_path)}, tmp_path)
    done = other.command("serve_app", "stop")
    assert done.returncode == 0, done.stderr
    assert f"{service.url} (process {service.record()['pid']})" in done.stdout.replace("\n", " ")
    assert f"AIDOCS_DATA_DIR={service.data_dir}" in done.stdout
    assert is_ready(service.url)


def test_the_command_line_searches(service: Run) -> None:
    done = service.command("serve_app", "search", "receipts", "--collection", "handbook")
    assert done.returncode == 0, done.stderr
    assert "Expenses" in done.stdout
    wrong = service.command("serve_app", "search", "receipts", "--collection", "nothing-here")
    assert wrong.returncode == 1 and "nothing-here" in wrong.stderr


def test_starting_again_does_nothing(service: Run) -> None:
    before = service.record()
    done = service.command("serve_app", "start")
    assert done.returncode == 0 and "already running" in done.stdout
    assert service.record() == before


def test_starting_again_waits_for_a_run_that_is_only_slow(service: Run) -> None:
    before, [gateway] = service.record(), service.processes("gateway")
    port = int(service.url.rpartition(":")[2])
    gateway.suspend()
    try:
        starting = subprocess.Popen(
            [sys.executable, "-m", "serve_app", "start"], env=service.environ, stdout=subprocess.PIPE, text=True
        )
        asking = psutil.Process(starting.pid)
        poll(lambda: any(c.raddr and c.raddr.port == port for c in asking.net_connections()), timeout_s=30)
    finally:
        gateway.resume()
    assert "running" in starting.communicate(timeout=60)[0] and starting.returncode == 0
    assert service.record() == before and service.processes("gateway") == [gateway]


def test_a_second_run_on_the_same_port_says_what_to_do(service: Run, tmp_path: Path) -> None:
    second = Run(service.url, service.environ | {"AIDOCS_DATA_DIR": str(tmp_path)}, tmp_path)
    done = second.command("serve_app", "serve")
    assert done.returncode == 1
    assert "make stop" in done.stderr and "AIDOCS_SERVING__PORT" in done.stderr


def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(service: Run) -> None:
    before = service.record()
    second = Run(service.url, service.environ | {"AIDOCS_SERVING__PORT": str(free_port())}, service.data_dir)
    done = second.command("serve_app", "serve")
    assert done.returncode == 1
    assert "make stop" in done.stderr and "AIDOCS_DATA_DIR" in done.stderr
    assert service.record() == before


def test_a_proxy_in_the_environment_is_not_asked_for_our_own_address(service: Run) -> None:
    proxied = Run(service.url, service.environ | {"http_proxy": "http://127.0.0.1:9"}, service.data_dir)
    assert proxied.command("serve_app", "search", "receipts", "--collection", "handbook").returncode == 0
    odd = proxied.command("serve_app", "search", "receipts", "--collection", "my docs")
    assert odd.returncode == 1 and "Traceback" not in odd.stderr


def test_a_gateway_replica_is_small_and_has_no_torch(service: Run) -> None:
    [gateway] = service.processes("gateway")
    search(service.url)
    mapped = {Path(region.path).name for region in gateway.memory_maps()}
    assert not {name for name in mapped if "torch" in name}
    assert gateway.memory_full_info().pss < 400 * MIB  # its own, and its share of what is shared


def test_it_listens_for_requests_on_loopback_only(service: Run) -> None:
    port = int(service.url.rpartition(":")[2])
    bound = {
        connection.laddr.ip
        for process in service.all_processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert bound == {"127.0.0.1"}


def test_a_thousand_clients_that_hang_up_stall_nobody(service: Run) -> None:
    """Each sends a question of its own, a hundred at once, and leaves without the answer; the batchers must live, and
    soon serve those who stay."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    for hundred in range(10):
        clients = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
        for number, client in enumerate(clients):
            body = json.dumps({"query": f"how many vacation days in year {100 * hundred + number}?"})
            client.sendall(
                f"POST /v1/collections/handbook/search HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n{body}".encode()
            )
        for client in clients:
            client.close()
    question = {"query": "how many days of vacation does somebody have who has stayed?"}
    status, answer = poll(lambda: accepted(f"{service.url}/v1/collections/handbook/search", question), timeout_s=60)
    assert (status, answer["cache"], answer["hits"][0]["document_id"]) == (200, "miss", "leave")
    assert http("GET", f"{service.url}/health/ready")[0] == 200


def accepted(url: str, body: object) -> tuple[int, Any] | None:
    """None while there is too much to do (429)."""
    status, answer = http("POST", url, body)
    return None if status == 429 else (status, answer)


@pytest.mark.parametrize("victim", ["StoreActor", "gateway"])
def test_a_killed_part_comes_back_and_no_acknowledged_upload_is_lost(service: Run, victim: str) -> None:
    """Documents are uploaded before the kill, while it is gone, and after."""
    collection = f"{service.url}/v1/collections/killed-{victim}"
    with uploading(collection, clients=3) as uploads:
        poll(lambda: len(uploads.acknowledged) >= 10, timeout_s=60)
        killed = service.processes(victim)
        for process in killed:
            process.kill()
        poll(lambda: set(service.processes(victim)) - set(killed), timeout_s=60)
        poll(lambda: is_ready(service.url), timeout_s=60)
        before = len(uploads.acknowledged)
        poll(lambda: len(uploads.acknowledged) >= before + 10, timeout_s=60)
    assert missing_documents(collection, uploads.acknowledged) == []
    assert search(service.url)[0] == "leave"
    assert http("DELETE", collection)[0] == 200


def test_a_code_only_redeploy_under_load_loses_no_request(service: Run, tmp_path: Path) -> None:
    """Surge, drain and Serve's routing: every request that is sent while the replicas are exchanged gets its answer,
    and an upload that the old replica has begun is ended by it, however long its client takes."""
    old = {p.pid for p in service.processes("gateway")}
    config = tmp_path / "serve.yaml"
    config.write_text(
        "applications:\n"
        "  - {name: ai-docs, route_prefix: /, import_path: 'serve_app.main:app', args: {version: second}}\n"
    )
    collection, slow = f"{service.url}/v1/collections/redeployed", [f"slow{number}" for number in range(50)]
    finished, go_on = threading.Event(), threading.Event()
    outcomes: list[tuple[int, object]] = []

    def client() -> None:
        for number in itertools.count():
            if finished.is_set():
                return
            body = {"query": f"days of holiday {number}"}
            outcomes.append(http("POST", f"{service.url}/v1/collections/handbook/search", body))

    with ThreadPoolExecutor() as threads, uploading(collection) as uploads:
        clients = [threads.submit(client) for _ in range(2)]
        slow_one = threads.submit(slow_upload, collection, slow, go_on)
        try:
            serve = str(Path(sys.executable).with_name("serve"))
            deploy = psutil.Popen([serve, "deploy", config, "-a", service.record()["dashboard"]], env=service.environ)
            assert deploy.wait(60) == 0
            poll(lambda: "STOPPING" in gateway_states(service), timeout_s=120)
            drained_s = time.monotonic() + 2 * DRAIN_S  # then the upload is all that keeps the old replica
            poll(lambda: time.monotonic() > drained_s, timeout_s=60)
            assert old & pids(service) and not slow_one.done()
            go_on.set()
            assert slow_one.result(timeout=60) == 200
            poll(lambda: not old & pids(service), timeout_s=60)
        finally:
            finished.set()
            go_on.set()
    for each in clients:
        each.result()
    assert [outcome for outcome in outcomes if outcome[0] != 200] == [] and len(outcomes) > 20
    assert uploads.failures == [] and len(uploads.acknowledged) > 20
    assert missing_documents(collection, [*slow, *uploads.acknowledged]) == []
    assert http("DELETE", collection)[0] == 200


def pids(service: Run) -> set[int]:
    return {p.pid for p in service.processes("gateway")}


def gateway_states(service: Run) -> list[str]:
    _, answer = http("GET", f"{service.record()['dashboard']}/api/serve/applications/")
    gateway = answer["applications"]["ai-docs"]["deployments"].get("gateway", {})  # not there while it is deployed
    return [replica["state"] for replica in gateway.get("replicas", [])]


def test_stop_ends_what_a_killed_run_left_and_not_its_neighbour(
    service: Run, tmp_path: Path, model_data_dir: Path
) -> None:
    """`kill -9` of the owner leaves Ray's daemons and perhaps a proxy; `stop` finds them by their mark."""
    with run(tmp_path, model_data_dir) as running:
        for _ in range(20):  # two runs on one machine keep their requests apart
            assert http("GET", f"{running.url}/v1/collections") == (200, {"collections": []})
            assert search(service.url)
        record = running.record()
        psutil.Process(record["pid"]).send_signal(signal.SIGKILL)
        psutil.wait_procs([p for p in bearing(record["mark"]) if p.pid == record["pid"]], timeout=10)
    assert bearing(record["mark"]) == []
    assert not (tmp_path / "run.json").exists()
    assert search(service.url)
