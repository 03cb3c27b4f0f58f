"""For who has no KubeRay: the strategy's Deployment, Service and HPA of gateways alone, against the same data tier.

Each pod is a Ray of its own with one gateway. It neither indexes nor embeds in a pool; `python -m jobs.index` runs
elsewhere.
"""

from __future__ import annotations

from typing import Any

from cluster.application import TERMINATION_GRACE_S, container, volumes
from cluster.environment import Environment, PodResources
from cluster.network import Arrow, Outside, clients, component_policies
from cluster.objects import (
    API_PORT,
    RAY_METRICS_PORT,
    Object,
    disruption_budget,
    labels,
    make,
    pod_security,
    selector,
    service,
    spread,
)
from cluster.quantities import GIB

NAME, PREFIX = "ai-docs-gateway", "plain"
RESOURCES = PodResources(cpus=2, memory_bytes=4 * GIB)
# The strategy's figures.
CPU_PERCENT, MEMORY_PERCENT = 70, 80
MAX_SURGE, MAX_UNAVAILABLE = 3, 2


def objects(env: Environment) -> list[Object]:
    found = [deployment(env), service(env, NAME, NAME, {"http": API_PORT}), autoscaler(env)]
    if env.gateway.min_replicas > 1:
        found.append(disruption_budget(env, NAME, NAME, maxUnavailable=1))
    arrows = [
        *clients(NAME),
        Arrow(Outside(env.namespaces.ingress), NAME, (API_PORT,), "users"),
        Arrow(Outside(env.namespaces.monitoring), NAME, (RAY_METRICS_PORT,), "Prometheus"),
    ]
    return [*found, *component_policies(env, arrows, f"{PREFIX}-")]


def deployment(env: Environment) -> Object:
    ports = {"http": API_PORT, "metrics": RAY_METRICS_PORT}
    own = container(env, "gateway", RESOURCES, ports=ports)
    ready = {"httpGet": {"path": "/health/ready", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 5}
    alive = {"httpGet": {"path": "/health/live", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}
    own |= {
        "command": ["python", "-m", "serve_app", "serve"],
        "startupProbe": {**alive, "failureThreshold": 30},
        "readinessProbe": {**ready, "failureThreshold": 3},
        "livenessProbe": {**alive, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 15"]}}},
    }
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_S,
        "securityContext": pod_security(),
        "containers": [own],
        "volumes": volumes(RESOURCES),
        "topologySpreadConstraints": [
            spread(NAME, required=False),
            spread(NAME, "topology.kubernetes.io/zone", required=False),
        ],
    }
    rolling = {"maxSurge": MAX_SURGE, "maxUnavailable": min(MAX_UNAVAILABLE, env.gateway.min_replicas - 1)}
    spec = {
        "replicas": env.gateway.min_replicas,
        "selector": {"matchLabels": selector(NAME)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": {"metadata": {"labels": labels(NAME)}, "spec": pod},
    }
    return make(env, "apps/v1", "Deployment", NAME, NAME, spec=spec)


def autoscaler(env: Environment) -> Object:
    def metric(name: str, percent: int) -> dict[str, Any]:
        target = {"type": "Utilization", "averageUtilization": percent}
        return {"type": "Resource", "resource": {"name": name, "target": target}}

    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
        "minReplicas": env.gateway.min_replicas,
        "maxReplicas": env.gateway.max_replicas,
        "metrics": [metric("cpu", CPU_PERCENT), metric("memory", MEMORY_PERCENT)],
    }
    return make(env, "autoscaling/v2", "HorizontalPodAutoscaler", NAME, NAME, spec=spec)
