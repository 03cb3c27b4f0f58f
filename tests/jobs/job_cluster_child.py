"""`python -m tests.jobs.job_cluster_child`: a Ray that takes jobs, beside whatever others there are on the machine.
Prints the address of its dashboard, and ends when its stdin does."""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

HEAD: dict[str, Any] = {
    "num_cpus": 2,
    "include_dashboard": True,
    "dashboard_port": 0,
    "dashboard_agent_listen_port": None,  # any that is free: it is what takes jobs
    "object_store_memory": 100 * 1024 * 1024,
}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        print(f"http://{cluster.webui_url}", flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
