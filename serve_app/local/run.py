"""One run of Ray + Serve + the app on this machine: its mark, its record, what belongs to it, and its end.

Every process it starts, Ray's daemons and HAProxy included, inherits RUN_MARK and RUN_FOLDER. `stop` ends what bears
the mark and nothing else, so that a proxy which outlived a killed run gives its port back (DESIGN §10).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from serve_app.cache.tiers.shared_folder import in_shared_memory
from serve_app.deployments import environment
from serve_app.local.haproxy import answer_503
from serve_app.local.ports import choose_ports
from serve_app.settings import Settings

RUN_MARK = "AI_DOCS_RUN"
RUN_FOLDER = "AI_DOCS_RUN_FOLDER"  # the data folder of the run
RECORD = "run.json"  # in the data folder
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
OBJECT_STORE_BYTES = 256 * 1024 * 1024  # of a Ray that is started on this machine

# Read by Ray when it is imported. Measured: HAProxy and throughput mode carry 8 times the default proxy's requests.
HIGH_THROUGHPUT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # Serve kills it after 5 s, which a busy machine needs
}
# Ray would wait for its dashboard before it starts its node: 3 s. start.py waits for it last.
NO_WAIT_FOR_DASHBOARD = {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "0"}
# Titles that Ray gives its processes would be written over their environment, and the mark with it.
KEEP_MARK = {"SPT_NOENV": "1"}


def run_file(settings: Settings) -> Path:
    return settings.data_dir / RECORD


def url(settings: Settings) -> str:
    return f"http://{settings.serving.host}:{settings.serving.port}"


def mark_this_run(settings: Settings) -> str:
    """Set the environment that all processes of this run inherit, and note the run where `stop` looks for it."""
    mark = uuid.uuid4().hex
    folder = str(settings.data_dir.absolute())
    os.environ.update({RUN_MARK: mark, RUN_FOLDER: folder, **KEEP_MARK, **NO_WAIT_FOR_DASHBOARD})
    for name, value in HIGH_THROUGHPUT.items():
        os.environ.setdefault(name, value)
    environment.set_for_new_ray()
    choose_ports()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    answer_503(settings.data_dir.absolute())
    note_run(settings, mark)
    return mark


def note_run(settings: Settings, mark: str, **more: str) -> None:
    owner = psutil.Process()
    record = {"pid": owner.pid, "started_at_s": owner.create_time(), "mark": mark, "url": url(settings), **more}
    run_file(settings).write_text(json.dumps(record))


def read_run(settings: Settings) -> dict[str, Any] | None:
    """The record of the last run of this data folder that has not ended in order."""
    return read_record(run_file(settings))


def read_record(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return record


def open_directly(request: str | urllib.request.Request, timeout_s: float) -> Any:
    """urlopen without the proxies that the environment may name: they are not for this machine's own addresses."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s)


def fault(url: str) -> str | None:
    """None if it answers 200, else why not: in the API's own words where it has some."""
    try:
        with open_directly(url, timeout_s=5) as answer:
            return None if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return detail(error)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        return str(error)


def detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError, OSError):  # not from the API: a proxy's page, say
        return str(error)


def readiness_fault(settings: Settings) -> str | None:
    return fault(f"{url(settings)}/health/ready")


def proxy_fault(settings: Settings) -> str | None:
    """None if HAProxy listens where the API is, or was not asked for. Else something slower may have answered."""
    run = read_run(settings)
    if run is None or os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return None
    port = settings.serving.port
    if any(listens(process, port) for process in marked(run["mark"]) if process.name() == "haproxy"):
        return None
    return (
        f"it does not listen on port {port}; RAY_SERVE_ENABLE_HA_PROXY=0 starts with Serve's own proxy, which is slower"
    )


def listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile: a newer one has taken its place
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return True
    return False


def end(settings: Settings, mark: str) -> None:
    """From inside the run: the app and Ray in order, then whatever still bears the mark."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    end_marked(mark, spare=os.getpid())
    forget(settings)


def stop(settings: Settings) -> bool:
    """From outside: end the run of this data folder, or what is left of it. False if there was none."""
    run = read_run(settings)
    marks = marks_by_folder().get(settings.data_dir.absolute(), set())
    if run is None and not marks:
        return False
    if run is not None:
        marks.add(run["mark"])
        if (process := owner_of(run)) is not None:
            end_processes([process], STOP_TIMEOUT_S)
    for mark in marks:
        end_marked(mark, spare=os.getpid())
    forget(settings)
    return True


@dataclass(frozen=True, slots=True)
class OtherRun:
    """A run of another data folder. url and pid, of its owner: None if its record is gone."""

    data_dir: Path
    url: str | None
    pid: int | None


def other_runs(settings: Settings) -> list[OtherRun]:
    """Of this user, on this machine."""
    records = {folder: read_record(folder / RECORD) or {} for folder in sorted(marks_by_folder())}
    own = settings.data_dir.absolute()
    return [OtherRun(folder, each.get("url"), each.get("pid")) for folder, each in records.items() if folder != own]


def forget(settings: Settings) -> None:
    """The run's record, and its cache in shared memory, which is memory."""
    if shared := in_shared_memory(settings.data_dir):
        shutil.rmtree(shared, ignore_errors=True)
    run_file(settings).unlink(missing_ok=True)


def owner(settings: Settings) -> psutil.Process | None:
    """The process that holds a run of this data folder, if one is alive."""
    run = read_run(settings)
    return owner_of(run) if run else None


def owner_of(run: Mapping[str, Any]) -> psutil.Process | None:
    """The process that wrote this record, if it is alive; a pid alone may be another's by now."""
    try:
        process = psutil.Process(run["pid"])
        return process if process.create_time() == run["started_at_s"] else None
    except psutil.NoSuchProcess:
        return None


def end_marked(mark: str, spare: int) -> None:
    end_processes([p for p in marked(mark) if p.pid != spare], timeout_s=5)


def end_processes(processes: list[psutil.Process], timeout_s: float) -> None:
    """Asks them to end, and kills those that have not in `timeout_s`."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it may end by itself meanwhile
                ask(process)
        _, processes = psutil.wait_procs(processes, timeout=timeout_s)


def marked(mark: str) -> list[psutil.Process]:
    """This user's processes that were started with the mark in their environment (the owner itself was not)."""
    return [process for process in psutil.process_iter() if environ_of(process).get(RUN_MARK) == mark]


def marks_by_folder() -> dict[Path, set[str]]:
    """Of the runs that have processes of this user alive, by their data folder."""
    found: dict[Path, set[str]] = {}
    for process in psutil.process_iter():
        entries = environ_of(process)
        folder, mark = entries.get(RUN_FOLDER), entries.get(RUN_MARK)
        if folder and mark:
            found.setdefault(Path(folder), set()).add(mark)
    return found


def environ_of(process: psutil.Process) -> dict[str, str]:
    """Empty for another user's. psutil cannot parse it where Ray has written a title over the head of the block."""
    try:
        if process.uids().real != os.getuid():
            return {}
        if not psutil.LINUX:
            return process.environ()
        block = Path(f"/proc/{process.pid}/environ").read_bytes()
        pairs = (entry.partition(b"=") for entry in block.split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    except (psutil.Error, OSError):
        return {}
