"""Checks whether a gateway replica grows under load: its memory after one minute divided by that after ten.

All queries are distinct, so that every search runs in full. A filling cache is not a leak, so the cache is small: L1 is
full within the first minute, and L2 and L4 are off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from serve_app.local import run as local
from serve_app.local.ports import free_port
from serve_app.settings import ServingSettings, Settings
from tests.bench.contenders import QUERY_WORDS, SEARCH, Bodies, write
from tests.bench.corpus import excerpts
from tests.bench.prepared import Prepared
from tests.bench.rounds import Comparison, Series

CLIENTS = 16
FIRST_S, REST_S, PART_S = 60.0, 540.0, 60.0
QUERIES = 150_000
TARGET = 0.95
SMALL_CACHE = {
    "AIDOCS_CACHE__L1__SIZE_BYTES": str(16 * 2**20),
    "AIDOCS_CACHE__L2__ENABLED": "false",
    "AIDOCS_CACHE__L4__ENABLED": "false",
}


def compare(settings: Settings, prepared: Prepared) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as name:
        folder, port = Path(name), free_port()
        shutil.copytree(prepared.folder / "store", folder / "store")
        (folder / "models").symlink_to(settings.data_dir / "models")
        texts = excerpts(prepared.documents(), QUERIES, QUERY_WORDS)
        queries = Bodies(write(folder / "queries.jsonl", [{"query": text} for text in texts]))
        serving = ServingSettings(port=port)
        run = settings.model_copy(update={"data_dir": folder, "serving": serving})
        environ = os.environ | SMALL_CACHE | {"AIDOCS_DATA_DIR": name, "AIDOCS_SERVING__PORT": str(port)}
        command = [sys.executable, "-m", "serve_app"]
        try:
            subprocess.run([*command, "start"], env=environ, check=True, capture_output=True, timeout=180)
            url = local.url(run) + SEARCH
            queries.send(url, CLIENTS, FIRST_S)
            first = gateway_mib(run)
            for _ in range(int(REST_S / PART_S)):
                if not queries.send(url, CLIENTS, PART_S)["requests"]:
                    raise RuntimeError(f"{QUERIES:,} queries are too few for this machine")
            last = gateway_mib(run)
        finally:
            subprocess.run([*command, "stop"], env=environ, check=True, capture_output=True, timeout=180)
    note = f"{queries.sent:,} distinct searches"
    after = Series("after 10 minutes", "MiB", (last,)), Series("after 1 minute", "MiB", (first,))
    return Comparison("memory of a gateway replica", *after, TARGET, note, less_is_better=True)


def gateway_mib(settings: Settings) -> float:
    """Anonymous memory of all gateway replicas of the run. Pages of files, mostly libraries, are not counted: a replica
    shares them with other processes, so its part of them grows when another process ends."""
    run = local.read_run(settings)
    assert run is not None
    gateways = [p for p in local.marked(run["mark"]) if "gateway" in " ".join(p.cmdline())]
    assert gateways, "no gateway replica runs"
    return sum(float(region.anonymous) for p in gateways for region in p.memory_maps()) / 2**20
