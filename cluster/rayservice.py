"""The service on KubeRay: a head without work, groups of workers with the gateways, and what keeps them up."""

from __future__ import annotations

from typing import Any

import yaml

from cluster.application import TERMINATION_GRACE_S, container, volumes
from cluster.environment import Environment, PodResources, WorkerGroup
from cluster.objects import (
    API_PORT,
    APP,
    DASHBOARD_PORT,
    GCS_PORT,
    HAPROXY_METRICS_PORT,
    RAY_CLIENT_PORT,
    RAY_METRICS_PORT,
    REDIS_PORT,
    SECRET,
    Object,
    disruption_budget,
    labels,
    make,
    pod_security,
    spread,
)

GCS_REDIS = "gcs-redis"
APPLICATION = "serve_app.main:app"
UPGRADE_STEP_PERCENT, UPGRADE_INTERVAL_S, UPGRADE_SURGE_PERCENT = 10, 30, 100
HEAD_PORTS = {"gcs": GCS_PORT, "dashboard": DASHBOARD_PORT, "client": RAY_CLIENT_PORT, "metrics": RAY_METRICS_PORT}
WORKER_PORTS = {"serve": API_PORT, "metrics": RAY_METRICS_PORT, "haproxy-metrics": HAPROXY_METRICS_PORT}


def serve_config(env: Environment) -> str:
    """Serve's config file. Another image is another `version`, which is what makes Serve roll the replicas."""
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": API_PORT},
        "applications": [
            {"name": APP, "route_prefix": "/", "import_path": APPLICATION, "args": {"version": env.image.tag}}
        ],
    }
    return yaml.safe_dump(config, sort_keys=False)


def ray_cluster_spec(env: Environment, prefix: str = "ray", *, survives_its_head: bool = True) -> dict[str, Any]:
    """prefix: of its pods' component. survives_its_head: the cluster's state is in Redis, so that workers go on serving
    while a new head starts. A job's cluster does not need it: the job starts again."""
    groups = [worker_group(f"{prefix}-worker", "cpu", env, env.ray.cpu_workers)]
    if env.ray.gpu_workers is not None:
        groups.append(worker_group(f"{prefix}-worker", "gpu", env, env.ray.gpu_workers))
    state = {
        "gcsFaultToleranceOptions": {
            "redisAddress": f"redis://{GCS_REDIS}:{REDIS_PORT}",
            "redisPassword": {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": "gcs-redis-password"}}},
        }
    }
    return {
        "rayVersion": env.ray.version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "upscalingMode": "Default",
            "idleTimeoutSeconds": 120,
            "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
        },
        **(state if survives_its_head else {}),
        "headGroupSpec": head(f"{prefix}-head", env),
        "workerGroupSpecs": groups,
    }


def head(component: str, env: Environment) -> dict[str, Any]:
    """Only Ray's own processes: with no CPU to give, Serve places no replica on it."""
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
        "template": pod(env, component, env.ray.head, HEAD_PORTS, is_head=True),
    }


def worker_group(component: str, name: str, env: Environment, workers: WorkerGroup) -> dict[str, Any]:
    template = pod(env, f"{component}-{name}", workers.resources, WORKER_PORTS, gpus=workers.gpus)
    if workers.node_selector:
        template["spec"]["nodeSelector"] = dict(workers.node_selector)
    if workers.gpus:
        template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "groupName": name,
        "replicas": workers.min_replicas,
        "minReplicas": workers.min_replicas,
        "maxReplicas": workers.max_replicas,
        "rayStartParams": {"num-cpus": str(max(1, int(workers.resources.cpus)))},
        "template": template,
    }


def pod(
    env: Environment,
    component: str,
    resources: PodResources,
    ports: dict[str, int],
    *,
    gpus: int = 0,
    is_head: bool = False,
) -> dict[str, Any]:
    """KubeRay adds Ray's own probes. On SIGTERM Serve drains a node's replicas: `preStop` waits until the endpoints no
    longer name the pod, so that nothing new arrives meanwhile."""
    own = container(env, component, resources, gpus=gpus, ports=ports)
    own["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 15"]}}}
    spec: dict[str, Any] = {
        "serviceAccountName": APP,
        "automountServiceAccountToken": is_head,  # the autoscaler beside the head asks for workers
        "terminationGracePeriodSeconds": TERMINATION_GRACE_S,
        "securityContext": pod_security(),
        "containers": [own],
        "volumes": volumes(resources),
    }
    if not is_head:
        spec["topologySpreadConstraints"] = [
            spread(component, required=False),
            spread(component, "topology.kubernetes.io/zone", required=False),
        ]
    return {"metadata": {"labels": labels(component)}, "spec": spec}


def upgrade_strategy(env: Environment) -> dict[str, Any]:
    """A new cluster beside the old one takes a tenth of the traffic every 30 s. To roll back, revert the spec."""
    options = {
        "gatewayClassName": env.gateway_class,
        "stepSizePercent": UPGRADE_STEP_PERCENT,
        "intervalSeconds": UPGRADE_INTERVAL_S,
        "maxSurgePercent": UPGRADE_SURGE_PERCENT,
    }
    return {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}


def objects(env: Environment) -> list[Object]:
    spec = {
        "serveConfigV2": serve_config(env),
        "excludeHeadPodFromServeSvc": True,
        "upgradeStrategy": upgrade_strategy(env),
        "rayClusterDeletionDelaySeconds": TERMINATION_GRACE_S,
        "rayClusterConfig": ray_cluster_spec(env),
    }
    found = [make(env, "ray.io/v1", "RayService", APP, "ray-service", spec=spec)]
    if env.ray.cpu_workers.min_replicas > 1:
        found.append(disruption_budget(env, "ray-worker-cpu", "ray-worker-cpu", maxUnavailable=1))
    return found
