"""Indexes on a Ray of three nodes, of which one that embeds is killed half-way, and compares with an
undisturbed run. Prints the report as JSON.

AIDOCS_DATA_DIR=… python -m tests.jobs.index.multi_node_child SOURCE COLLECTION
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from jobs.index.run import index_source
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.inputs import inputs_of
from jobs.pipeline.ledger import Report
from jobs.pipeline.tally import Tally
from serve_app.deployments.store import NAMESPACE, connect_store
from serve_app.settings import load_settings
from serve_app.types import Scope
from tests.jobs.contents import contents, require_equal

NODE_CPUS = 2


class NodeKiller:
    """Kills a node which embeds, once half of the documents are indexed; neither the head nor the driver's, which of
    several on one machine may be any."""

    def __init__(self, cluster: Cluster, documents: int) -> None:
        self._cluster = cluster
        self._documents = documents
        self.killed = ""

    def __call__(self, total: Report) -> None:
        if self.killed or total.indexed < self._documents / 2:
            return
        busy = {actor.node_id for actor in list_actors() if actor.state == "ALIVE" and "EmbedStage" in actor.class_name}
        for node in [*self._cluster.worker_nodes]:
            if node.node_id in busy - {ray.get_runtime_context().get_node_id()}:
                self._cluster.remove_node(node, allow_graceful=False)
                self.killed = node.node_id
                return


def main(source: Path, collection: str) -> None:
    settings, scope = load_settings(), Scope("local", collection)
    head: dict[str, Any] = {"num_cpus": NODE_CPUS, "include_dashboard": True, "dashboard_port": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=NODE_CPUS)
        ray.init(cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        killer = NodeKiller(cluster, len(source.read_text().splitlines()))
        with DeadLetterFile(source.with_suffix(".letters")) as letters:
            tally = Tally(letters, killer)
            index_source(inputs_of(str(source)), scope, settings, tally, block_tokens=1_024)
        with DeadLetterFile(source.with_suffix(".letters")) as letters:
            clean = Scope("local", f"{collection}-clean")
            index_source(inputs_of(str(source)), clean, settings, Tally(letters), block_tokens=1_024)
        require_equal(*(asyncio.run(contents(each, settings)) for each in (scope, clean)))
        stored = asyncio.run(connect_store(settings).count(scope))
        nodes = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
        report = asdict(tally.total) | {"stored": [stored.documents, stored.passages], "nodes": nodes}
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(report | {"killed": killer.killed}))  # last: until shutdown, Ray prints a node's end when it likes


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
