"""A real Prometheus that finds the running service by Ray's service discovery answers questions about its stages."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serve_app.local.ports import free_port
from tests.integration.running import Run, http, poll
from tests.services import require

SEARCHES = 5
Ask = Callable[[str], list[tuple[dict[str, str], float]]]

CONFIGURATION = """
scrape_configs:
  - job_name: ray
    scrape_interval: 1s
    http_sd_configs: [{url: %s/api/prometheus/sd, refresh_interval: 2s}]
"""


@pytest.fixture(scope="module")
def ask(service: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """An instant query: labels and value of each series."""
    program, folder, address = require("prometheus"), tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{free_port()}"
    configuration = Path(folder, "prometheus.yml")
    configuration.write_text(CONFIGURATION % service.record()["dashboard"])
    options = (f"--config.file={configuration}", f"--storage.tsdb.path={folder}", f"--web.listen-address={address}")
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ready() -> bool:
        assert process.poll() is None, "prometheus ended at its start"
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                return True
        except urllib.error.URLError:
            return False

    def ask(query: str) -> list[tuple[dict[str, str], float]]:
        with urllib.request.urlopen(
            f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        ) as answer:
            result = json.load(answer)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    try:
        poll(ready, timeout_s=30)
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=30)


def requests(ask: Ask, outcome: str) -> float:
    question = f'sum(ray_aidocs_requests_total{{route="searches",outcome="{outcome}"}})'
    return poll(lambda: ask(question), timeout_s=60)[0][1]


def p95_s(ask: Ask, stage: str) -> float:
    buckets = f'ray_aidocs_stage_seconds_bucket{{stage="{stage}",lane="interactive"}}'
    question = f"histogram_quantile(0.95, sum by (le) (rate({buckets}[1m])))"
    return poll(lambda: [value for _, value in ask(question) if not math.isnan(value)], timeout_s=60)[0]


def test_prometheus_has_the_quantiles_of_stages_and_the_count_of_outcomes(service: Run, ask: Ask) -> None:
    documents = [{"id": "a", "text": "Cats purr softly."}, {"id": "b", "text": "Dogs bark loudly."}]
    url = f"{service.url}/v1/collections/measured"
    assert http("POST", f"{url}/documents", {"documents": documents})[0] == 200
    ok, rejected = requests(ask, "ok"), requests(ask, "rejected")
    for number in range(SEARCHES):
        assert http("POST", f"{url}/search", {"query": f"which animal purrs? ({number})"})[0] == 200
    assert http("POST", f"{url}/search", {"query": "which animal purrs? (0)"})[1]["cache"] == "l1"
    assert http("POST", f"{url}/search", {"limit": -1})[0] == 422

    poll(lambda: requests(ask, "ok") == ok + SEARCHES + 1, timeout_s=60)
    poll(lambda: requests(ask, "rejected") == rejected + 1, timeout_s=60)
    for stage in ("tokenize", "queue", "infer", "search", "serialise"):
        assert 0 < p95_s(ask, stage) <= 10
    [(labels, hits)] = poll(
        lambda: ask('ray_aidocs_cache_lookups_total{kind="result",tier="l1",outcome="hit"} > 0'), timeout_s=60
    )
    assert hits >= 1
    assert {"application", "deployment", "replica"} <= labels.keys()
    assert 0 < ask('ray_aidocs_cache_hit_ratio{kind="result"}')[0][1] <= 1
    assert http("DELETE", url)[0] in (200, 204)
