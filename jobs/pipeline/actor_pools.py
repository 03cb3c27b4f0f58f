"""How many actors a job's stages have, and what each reserves of the cluster, from what that has."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import ray

from serve_app.errors import ConfigurationError
from serve_app.settings import EmbeddingSettings

log = logging.getLogger(__name__)

LEAST_FREE_CPUS = 0.05
# Reading takes a fifteenth of the CPU that embedding takes, and writing half of that (docs/performance.md).
CPUS_OF_A_READER = 8
READERS_SHARE = 0.6  # of the CPUs, where GPUs embed
READERS_OF_A_WRITER = 2
LEAST_WRITERS = 2
CPU_BLOCK_TOKENS = 32_768  # what keeps two cores busy for three seconds
GPU_BLOCK_TOKENS = 131_072


@dataclass(frozen=True, slots=True)
class Cluster:
    """nodes: those that have CPUs."""

    nodes: int
    free_cpus: float
    gpus: int
    free_gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class ActorPools:
    """readers, embedders, writers: at most so many. threads, gpus: of each embedder, None for all CPUs of its machine.
    block_tokens: that go through the stages together, where nothing else is asked for. …_cpus: that one worker of each
    stage reserves. It uses what is free; the number only places it."""

    readers: int
    embedders: int
    writers: int
    threads: int | None
    gpus: int
    block_tokens: int
    read_cpus: float
    embed_cpus: float
    write_cpus: float


def actor_pools(cluster: Cluster, embedding: EmbeddingSettings, embedders: int | None) -> ActorPools:
    """embedders: None for one on each GPU or, where none is used, on each node, over which Ray Data spreads them. There
    are as many readers as keep them busy.

    One on a machine is placed on what is free, as little as that may be, so that a run starts beside a busy Serve app.
    Several that are asked for take `threads` CPUs each (1 if None), for they would fight over a machine.
    Raises ConfigurationError if no CPU is free.
    """
    if cluster.free_cpus < LEAST_FREE_CPUS:
        raise ConfigurationError(f"the cluster has {cluster.free_cpus:g} CPUs free: add a node, or end what holds them")
    gpus = gpus_of_one(embedding, cluster.gpus)
    if gpus and cluster.free_gpus < 1:
        log.warning("no GPU of the cluster is free: the run waits for one; AIDOCS_EMBEDDING__DEVICE=cpu does without")
    share = min(1.0, cluster.free_cpus / 2)
    threads, embed_cpus = embedding.threads, share
    if embedders is None:
        embedders = max(1, cluster.gpus if gpus else cluster.nodes)
    elif embedders > 1:
        threads = threads or 1
        embed_cpus = min(float(threads), cluster.free_cpus - share / 2)  # one worker of each stage has to fit
    readers = int(cluster.free_cpus * READERS_SHARE) if gpus else int(cluster.free_cpus) // CPUS_OF_A_READER
    readers = max(readers, embedders)
    return ActorPools(
        readers=readers,
        embedders=embedders,
        writers=max(LEAST_WRITERS, readers // READERS_OF_A_WRITER),
        threads=threads,
        gpus=gpus,
        block_tokens=GPU_BLOCK_TOKENS if gpus else CPU_BLOCK_TOKENS,
        read_cpus=whole_thousandths(share / 4),
        embed_cpus=whole_thousandths(embed_cpus),
        write_cpus=whole_thousandths(share / 8),
    )


def whole_thousandths(cpus: float) -> float:
    """Rounded down, or together they would be more than is free."""
    return math.floor(cpus * 1_000) / 1_000


def gpus_of_one(embedding: EmbeddingSettings, in_cluster: float) -> int:
    """That an embedder takes: of the torch engine one, where it may and there is any. Ray hides what is not taken."""
    is_wanted = embedding.device == "cuda" or (embedding.device == "auto" and in_cluster >= 1)
    return int(embedding.engine == "torch" and is_wanted)


def cluster_now() -> Cluster:
    """Of the Ray that this process is connected to."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    gpus = int(ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    return Cluster(len(nodes), free.get("CPU", 0.0), gpus, free.get("GPU", 0.0))
