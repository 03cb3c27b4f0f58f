"""The application in a pod: its container, its settings as environment variables, its volumes."""

from __future__ import annotations

from typing import Any

from cluster.environment import Environment, PodResources
from cluster.objects import (
    API_PORT,
    CA_FOLDER,
    QDRANT_GRPC_PORT,
    REDIS_PORT,
    container_security,
    env_list,
    from_secret,
    requests_and_limits,
)
from cluster.quantities import GIB, memory

QDRANT, REDIS = "qdrant", "redis-cache"
DATA_DIR = "/var/lib/ai-docs"
# Of what a pod may use, so that Ray's object store and its workers fit beside each other.
SHARED_MEMORY_SHARE = 0.25
DRAIN_S = 310  # settings.serving.graceful_shutdown_timeout_s: the longest request, an upload, and a margin
TERMINATION_GRACE_S = DRAIN_S + 30

# Ray reads these when it is imported, on the head and on every worker alike.
HIGH_THROUGHPUT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MALLOC_ARENA_MAX": "2",
}


def settings(env: Environment) -> dict[str, str | dict[str, Any]]:
    """AIDOCS_ variables of gateways, embedders and jobs. Secrets are references."""
    qdrant = env.qdrant
    return {
        "AIDOCS_DATA_DIR": DATA_DIR,
        "AIDOCS_CACHE__L4__FOLDER": f"{DATA_DIR}/cache",
        "AIDOCS_EMBEDDING__PLACEMENT": env.embedding_placement,
        "AIDOCS_STORE__URL": f"grpcs://{QDRANT}:{QDRANT_GRPC_PORT}",
        "AIDOCS_STORE__API_KEY": from_secret("qdrant-api-key"),
        "AIDOCS_STORE__SHARDS": str(qdrant.shards),
        "AIDOCS_STORE__REPLICAS": str(qdrant.replication_factor),
        "AIDOCS_SERVING__HOST": "0.0.0.0",
        "AIDOCS_SERVING__PORT": str(API_PORT),
        "AIDOCS_SERVING__MIN_REPLICAS": str(env.gateway.min_replicas),
        "AIDOCS_SERVING__MAX_REPLICAS": str(env.gateway.max_replicas),
        "REDIS_PASSWORD": from_secret("redis-password"),
        "AIDOCS_REDIS__URL": (
            f"rediss+cluster://:$(REDIS_PASSWORD)@{REDIS}:{REDIS_PORT}?ssl_ca_certs={CA_FOLDER}/ca.crt"
        ),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": f"{CA_FOLDER}/ca.crt",
        "HF_HUB_OFFLINE": "1",  # the image has the model
    }


def container(
    env: Environment, name: str, resources: PodResources, *, gpus: int = 0, ports: dict[str, int] | None = None
) -> dict[str, Any]:
    """The application's container, without a command: KubeRay gives Ray's."""
    named = [{"name": key, "containerPort": port, "protocol": "TCP"} for key, port in (ports or {}).items()]
    return {
        "name": name,
        "image": env.image.reference,
        "imagePullPolicy": "IfNotPresent",
        "env": env_list(settings(env) | HIGH_THROUGHPUT),
        "ports": named,
        "resources": requests_and_limits(resources, gpus=gpus),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # Ray's session folder
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # its object store, and the cache's second tier
            {"name": "cache", "mountPath": f"{DATA_DIR}/cache"},
            {"name": "tls", "mountPath": CA_FOLDER, "readOnly": True},
        ],
    }


def volumes(resources: PodResources) -> list[dict[str, Any]]:
    shared_bytes = int(resources.memory_bytes * SHARED_MEMORY_SHARE)
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": memory(20 * GIB)}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": memory(shared_bytes)}},
        {"name": "cache", "emptyDir": {"sizeLimit": memory(100 * GIB)}},
        {"name": "tls", "secret": {"secretName": "ai-docs-tls", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
