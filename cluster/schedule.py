"""Nothing runs in dev and staging at night: KEDA scales what has replicas, a cron job suspends the Ray service."""

from __future__ import annotations

from typing import Any

from cluster.application import QDRANT, REDIS
from cluster.environment import Environment, OffHours
from cluster.objects import APP, USER_ID, Object, container_security, labels, make, pod_security
from cluster.rayservice import GCS_REDIS

KUBECTL_IMAGE = "registry.k8s.io/kubectl:v1.35.0"
ACCOUNT = "ai-docs-off-hours"


def objects(env: Environment) -> list[Object]:
    if env.off_hours is None:
        return []
    redis_nodes = env.redis_cache.masters * (1 + env.redis_cache.replicas_of_each)
    replicas = {QDRANT: env.qdrant.nodes, REDIS: redis_nodes, GCS_REDIS: 1}
    scaled = [scaled_object(env, env.off_hours, name, count) for name, count in replicas.items()]
    switches = [
        suspension(env, "suspend", env.off_hours.stop, suspended=True),
        suspension(env, "resume", env.off_hours.start, suspended=False),
    ]
    return [*scaled, *permission(env), *switches]


def cron(clock: str) -> str:
    hours, minutes = clock.split(":")
    return f"{int(minutes)} {int(hours)} * * *"


def scaled_object(env: Environment, hours: OffHours, name: str, replicas: int) -> Object:
    working = {
        "timezone": env.time_zone,
        "start": cron(hours.start),
        "end": cron(hours.stop),
        "desiredReplicas": str(replicas),
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
        "minReplicaCount": 0,
        "maxReplicaCount": replicas,
        "cooldownPeriod": 60,
        "triggers": [{"type": "cron", "metadata": working}],
    }
    return make(env, "keda.sh/v1alpha1", "ScaledObject", name, "off-hours", spec=spec)


def permission(env: Environment) -> list[Object]:
    """To patch this one Ray service, and nothing else."""
    rules = [{"apiGroups": ["ray.io"], "resources": ["rayservices"], "resourceNames": [APP], "verbs": ["get", "patch"]}]
    subjects = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": env.namespace}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        make(env, "v1", "ServiceAccount", ACCOUNT, "off-hours", automountServiceAccountToken=False),
        make(env, rbac, "Role", ACCOUNT, "off-hours", rules=rules),
        make(env, rbac, "RoleBinding", ACCOUNT, "off-hours", roleRef=reference, subjects=subjects),
    ]


def suspension(env: Environment, name: str, clock: str, *, suspended: bool) -> Object:
    patch = f'{{"spec": {{"suspend": {str(suspended).lower()}}}}}'
    container: dict[str, Any] = {
        "name": "kubectl",
        "image": KUBECTL_IMAGE,
        "args": ["patch", "rayservices.ray.io", APP, "--type=merge", "--patch", patch],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(),
    }
    pod = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": True,
        "securityContext": pod_security(USER_ID),
        "restartPolicy": "OnFailure",
        "containers": [container],
    }
    job = {"backoffLimit": 3, "template": {"metadata": {"labels": labels("off-hours")}, "spec": pod}}
    spec = {
        "schedule": cron(clock),
        "timeZone": env.time_zone,
        "concurrencyPolicy": "Replace",
        "jobTemplate": {"spec": job},
    }
    return make(env, "batch/v1", "CronJob", f"ai-docs-{name}", "off-hours", spec=spec)
