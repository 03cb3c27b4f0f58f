"""What stands before any workload: the namespace, the service account, and secrets, all of them by reference."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.environment import Environment
from cluster.objects import APP, SECRET, Object, labels, make

SECRET_KEYS = ("qdrant-api-key", "redis-password", "gcs-redis-password")
REFRESHED_EVERY = "1h"


def objects(env: Environment) -> list[Object]:
    account = make(env, "v1", "ServiceAccount", APP, "base", automountServiceAccountToken=False)
    return [namespace(env, "restricted"), account, external_secret(env, SECRET_KEYS)]


def namespace(env: Environment, level: str) -> Object:
    """level: of Kubernetes' pod security standards; a pod that needs more is refused. The size of a node is noted for
    `cluster validate`, which refuses a pod that fits on none."""
    levels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
    node = {"ai-docs/node-cpus": str(env.node.cpus), "ai-docs/node-memory-bytes": str(env.node.memory_bytes)}
    metadata = {"name": env.namespace, "labels": labels("base") | levels, "annotations": node}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def external_secret(env: Environment, keys: Sequence[str]) -> Object:
    """External Secrets makes the secret from the environment's store, and again when the store's value changes."""
    remote = [{"secretKey": key, "remoteRef": {"key": f"ai-docs/{env.name}", "property": key}} for key in keys]
    spec = {
        "refreshInterval": REFRESHED_EVERY,
        "secretStoreRef": {"name": env.secret_store, "kind": "ClusterSecretStore"},
        "target": {"name": SECRET, "creationPolicy": "Owner"},
        "data": remote,
    }
    return make(env, "external-secrets.io/v1", "ExternalSecret", SECRET, "base", spec=spec)
