"""What all objects have in common: names, labels, and the parts of a pod that every workload shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.environment import Environment, PodResources
from cluster.quantities import cpu, memory

Object = dict[str, Any]  # one Kubernetes object, as its YAML

APP = "ai-docs"
USER_ID = 10_001  # of every container of ours; the image's user

# Ports that anything listens on. docs/security.md accounts for each.
API_PORT = 8000
DASHBOARD_PORT = 8265
RAY_CLIENT_PORT = 10_001
GCS_PORT = 6379
RAY_METRICS_PORT = 8080
HAPROXY_METRICS_PORT = 9101
QDRANT_HTTP_PORT, QDRANT_GRPC_PORT, QDRANT_PEER_PORT = 6333, 6334, 6335
REDIS_PORT, REDIS_BUS_PORT = 6379, 16_379
OTLP_PORT = 4317

SECRET = "ai-docs-secrets"  # made by External Secrets from the environment's secret store
CA_FOLDER = "/etc/ai-docs/tls"


def labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": APP,
        "app.kubernetes.io/managed-by": "ai-docs-cluster",
    }


def selector(component: str) -> dict[str, str]:
    """The labels by which a component's pods are found: those that never change."""
    return {name: value for name, value in labels(component).items() if name.endswith(("/name", "/component"))}


def make(env: Environment, api_version: str, kind: str, name: str, component: str, **content: Any) -> Object:
    """An object of the environment's namespace; content: `spec` and whatever else the kind has."""
    metadata = {"name": name, "namespace": env.namespace, "labels": labels(component)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def requests_and_limits(resources: PodResources, *, gpus: int = 0) -> dict[str, Any]:
    """Memory is limited to what is requested, CPUs are not: an idle one is anybody's."""
    size = memory(resources.memory_bytes)
    limits: dict[str, Any] = {"memory": size}
    requests: dict[str, Any] = {"cpu": cpu(resources.cpus), "memory": size}
    if gpus:
        limits["nvidia.com/gpu"] = requests["nvidia.com/gpu"] = gpus
    return {"limits": limits, "requests": requests}


def pod_security(user_id: int = USER_ID) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": user_id,
        "runAsGroup": user_id,
        "fsGroup": user_id,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def from_secret(key: str) -> dict[str, Any]:
    """The value of an environment variable; no manifest has a secret in it."""
    return {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}


def env_list(values: Mapping[str, str | dict[str, Any]]) -> list[dict[str, Any]]:
    """Environment variables by name: text, or what `from_secret` gives."""
    return [{"name": name, **(_plain(value))} for name, value in sorted(values.items(), key=_secrets_first)]


def _plain(value: str | dict[str, Any]) -> dict[str, Any]:
    return {"value": value} if isinstance(value, str) else value


def _secrets_first(item: tuple[str, str | dict[str, Any]]) -> tuple[bool, str]:
    """A variable may name only those before it: `$(REDIS_PASSWORD)`."""
    name, value = item
    return isinstance(value, str), name


def spread(component: str, topology: str = "kubernetes.io/hostname", *, required: bool) -> dict[str, Any]:
    """Pods of a component on different nodes (or zones)."""
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(component)},
    }


def service(env: Environment, name: str, component: str, ports: Mapping[str, int], *, headless: bool = False) -> Object:
    listed = [{"name": key, "port": port, "targetPort": port, "protocol": "TCP"} for key, port in ports.items()]
    spec: dict[str, Any] = {"selector": selector(component), "ports": listed}
    if headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    else:
        spec |= {"type": "ClusterIP"}
    return make(env, "v1", "Service", name, component, spec=spec)


def disruption_budget(env: Environment, name: str, component: str, **bound: Any) -> Object:
    """bound: `minAvailable` or `maxUnavailable`."""
    spec = {**bound, "selector": {"matchLabels": selector(component)}}
    return make(env, "policy/v1", "PodDisruptionBudget", name, component, spec=spec)


def claim(env: Environment, name: str, size_bytes: int) -> dict[str, Any]:
    """A volume claim template of a StatefulSet."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": env.storage_class,
            "resources": {"requests": {"storage": memory(size_bytes)}},
        },
    }
