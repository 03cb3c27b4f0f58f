"""Where data lives: a Qdrant cluster, a Redis Cluster for the cache and the control state, and a Redis for Ray's head.

Three kinds of data, three homes: vectors survive everything, the cache may be lost at any time, and the state of Ray's
head must never be evicted.
"""

from __future__ import annotations

from typing import Any

from cluster.application import QDRANT, REDIS
from cluster.environment import Environment, PodResources
from cluster.objects import (
    CA_FOLDER,
    QDRANT_GRPC_PORT,
    QDRANT_HTTP_PORT,
    QDRANT_PEER_PORT,
    REDIS_BUS_PORT,
    REDIS_PORT,
    Object,
    claim,
    container_security,
    disruption_budget,
    env_list,
    from_secret,
    labels,
    make,
    pod_security,
    requests_and_limits,
    selector,
    service,
    spread,
)
from cluster.quantities import GIB
from cluster.rayservice import GCS_REDIS

REDIS_USER_ID, QDRANT_USER_ID = 999, 1_000
EVICTED_ABOVE = 0.8  # of a cache's memory: the rest is for copies while it saves and replicates
QDRANT_PORTS = {"http": QDRANT_HTTP_PORT, "grpc": QDRANT_GRPC_PORT, "peer": QDRANT_PEER_PORT}
REDIS_PORTS = {"redis": REDIS_PORT, "bus": REDIS_BUS_PORT}


def objects(env: Environment) -> list[Object]:
    return [*qdrant(env), *redis_cache(env), *gcs_redis(env)]


def stateful_set(env: Environment, name: str, replicas: int, pod: dict[str, Any], disk_bytes: int) -> Object:
    template = {"metadata": {"labels": labels(name)}, "spec": pod}
    spec = {
        "serviceName": f"{name}-headless",
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(name)},
        "template": template,
        "volumeClaimTemplates": [claim(env, "data", disk_bytes)],
    }
    return make(env, "apps/v1", "StatefulSet", name, name, spec=spec)


def pod_spec(component: str, container: dict[str, Any], *, user_id: int, copies: int) -> dict[str, Any]:
    """Copies on different nodes always, and in different zones where there are some."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 120,
        "securityContext": pod_security(user_id),
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "tls", "secret": {"secretName": "ai-docs-tls", "defaultMode": 0o440}},
        ],
    }
    if copies > 1:
        zones = spread(component, "topology.kubernetes.io/zone", required=False)
        spec["topologySpreadConstraints"] = [spread(component, required=True), zones]
    return spec


def qdrant(env: Environment) -> list[Object]:
    """Peers find each other through the first one. Reads ask a majority of a shard's copies (the application's client
    says so), writes wait for one."""
    own = env.qdrant
    first = f"https://{QDRANT}-0.{QDRANT}-headless:{QDRANT_PEER_PORT}"
    start = (
        'me="https://$(hostname).' + f"{QDRANT}-headless:{QDRANT_PEER_PORT}" + '"; '
        f'[ "$me" = "{first}" ] && exec ./qdrant --uri "$me" || exec ./qdrant --bootstrap {first} --uri "$me"'
    )
    values: dict[str, str | dict[str, Any]] = {
        "QDRANT__CLUSTER__ENABLED": "true",
        "QDRANT__CLUSTER__P2P__PORT": str(QDRANT_PEER_PORT),
        "QDRANT__CLUSTER__P2P__ENABLE_TLS": "true",
        "QDRANT__SERVICE__API_KEY": from_secret("qdrant-api-key"),
        "QDRANT__SERVICE__ENABLE_TLS": "true",
        "QDRANT__SERVICE__GRPC_PORT": str(QDRANT_GRPC_PORT),
        "QDRANT__SERVICE__HTTP_PORT": str(QDRANT_HTTP_PORT),
        "QDRANT__STORAGE__STORAGE_PATH": "/qdrant/data/storage",
        "QDRANT__STORAGE__SNAPSHOTS_PATH": "/qdrant/data/snapshots",
        "QDRANT__STORAGE__TEMP_PATH": "/tmp",
        "QDRANT__TELEMETRY_DISABLED": "true",
        "QDRANT__TLS__CA_CERT": f"{CA_FOLDER}/ca.crt",
        "QDRANT__TLS__CERT": f"{CA_FOLDER}/tls.crt",
        "QDRANT__TLS__KEY": f"{CA_FOLDER}/tls.key",
    }
    probe = {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTPS"}, "periodSeconds": 5}
    alive = {"httpGet": {"path": "/livez", "port": "http", "scheme": "HTTPS"}, "periodSeconds": 10}
    container = {
        "name": QDRANT,
        "image": own.image,
        "workingDir": "/qdrant",
        "command": ["/bin/sh", "-c", start],
        "env": env_list(values),
        "ports": [{"name": name, "containerPort": port} for name, port in QDRANT_PORTS.items()],
        "startupProbe": {**alive, "failureThreshold": 60},  # a node that was down loads its segments first
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**alive, "failureThreshold": 6},
        "resources": requests_and_limits(own.resources),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/qdrant/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "tls", "mountPath": CA_FOLDER, "readOnly": True},
        ],
    }
    pod = pod_spec(QDRANT, container, user_id=QDRANT_USER_ID, copies=own.nodes)
    found = [
        stateful_set(env, QDRANT, own.nodes, pod, own.disk_bytes),
        service(env, QDRANT, QDRANT, {"http": QDRANT_HTTP_PORT, "grpc": QDRANT_GRPC_PORT}),
        service(env, f"{QDRANT}-headless", QDRANT, QDRANT_PORTS, headless=True),
    ]
    if own.nodes > 1:
        found.append(disruption_budget(env, QDRANT, QDRANT, maxUnavailable=1))
    return found


def redis_container(
    image: str, resources: PodResources, arguments: list[str], ports: dict[str, int], *, secret: str, tls: bool
) -> dict[str, Any]:
    """Every option is an argument, so that nothing else configures it. secret: the key of its password, which comes
    from the environment."""
    options = f"--tls --cacert {CA_FOLDER}/ca.crt " if tls else ""
    check = f"redis-cli --no-auth-warning {options}ping | grep PONG"
    probe = {"exec": {"command": ["/bin/sh", "-c", check]}, "periodSeconds": 5, "timeoutSeconds": 3}
    password = "$(REDISCLI_AUTH)"  # Kubernetes fills it in; redis-cli reads the same variable
    return {
        "name": "redis",
        "image": image,
        "command": ["redis-server", *arguments, "--requirepass", password, "--masterauth", password],
        "env": env_list({"REDISCLI_AUTH": from_secret(secret)}),
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
        "resources": requests_and_limits(resources),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "tls", "mountPath": CA_FOLDER, "readOnly": True},
        ],
    }


def redis_cache(env: Environment) -> list[Object]:
    own = env.redis_cache
    nodes = own.masters * (1 + own.replicas_of_each)
    arguments = [
        *("--cluster-enabled", "yes", "--cluster-config-file", "/data/nodes.conf", "--cluster-node-timeout", "5000"),
        *("--cluster-announce-hostname", f"$(POD_NAME).{REDIS}-headless"),
        *("--cluster-preferred-endpoint-type", "hostname"),
        *("--port", "0", "--tls-port", str(REDIS_PORT), "--tls-cluster", "yes", "--tls-replication", "yes"),
        *("--tls-cert-file", f"{CA_FOLDER}/tls.crt", "--tls-key-file", f"{CA_FOLDER}/tls.key"),
        *("--tls-ca-cert-file", f"{CA_FOLDER}/ca.crt", "--tls-auth-clients", "no"),
        *("--maxmemory", str(int(own.resources.memory_bytes * EVICTED_ABOVE)), "--maxmemory-policy", "volatile-lfu"),
        *("--appendonly", "yes", "--dir", "/data"),
    ]
    container = redis_container(own.image, own.resources, arguments, REDIS_PORTS, secret="redis-password", tls=True)
    container["env"].append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    pod = pod_spec(REDIS, container, user_id=REDIS_USER_ID, copies=nodes if own.replicas_of_each else 1)
    found = [
        stateful_set(env, REDIS, nodes, pod, max(8 * GIB, own.resources.memory_bytes)),
        service(env, REDIS, REDIS, {"redis": REDIS_PORT}),
        service(env, f"{REDIS}-headless", REDIS, REDIS_PORTS, headless=True),
        cluster_creation(env, nodes),
    ]
    if own.replicas_of_each:
        found.append(disruption_budget(env, REDIS, REDIS, maxUnavailable=1))
    return found


def cluster_creation(env: Environment, nodes: int) -> Object:
    """Joins the nodes once; where they are joined already it does nothing. A node that restarts finds the others by its
    own nodes.conf."""
    component = f"{REDIS}-create"
    hosts = " ".join(f"{REDIS}-{number}.{REDIS}-headless:{REDIS_PORT}" for number in range(nodes))
    client = f"redis-cli --no-auth-warning --tls --cacert {CA_FOLDER}/ca.crt"
    script = "\n".join(
        [
            "set -eu",
            f'for host in {hosts}; do until {client} -h "${{host%:*}}" ping | grep -q PONG; do sleep 2; done; done',
            f"if {client} -h {REDIS} cluster info | grep -q cluster_state:ok; then exit 0; fi",
            f"{client} --cluster create {hosts} --cluster-replicas {env.redis_cache.replicas_of_each} --cluster-yes",
        ]
    )
    container = {
        "name": "create",
        "image": env.redis_cache.image,
        "command": ["/bin/sh", "-c", script],
        "env": env_list({"REDISCLI_AUTH": from_secret("redis-password")}),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tls", "mountPath": CA_FOLDER, "readOnly": True}],
    }
    pod = pod_spec(component, container, user_id=REDIS_USER_ID, copies=1)
    template = {"metadata": {"labels": labels(component)}, "spec": {**pod, "restartPolicy": "OnFailure"}}
    spec = {"backoffLimit": 10, "activeDeadlineSeconds": 900, "template": template}
    return make(env, "batch/v1", "Job", component, component, spec=spec)


def gcs_redis(env: Environment) -> list[Object]:
    """One, with a disk: while it is away nothing scales or deploys, and gateways answer on. Ray speaks to it without
    TLS, so that only its pods may reach it (network policies)."""
    own = env.gcs_redis
    arguments = [*("--port", str(REDIS_PORT)), *("--maxmemory-policy", "noeviction"), *("--appendonly", "yes")]
    arguments += ["--appendfsync", "everysec", "--dir", "/data"]
    container = redis_container(
        own.image, own.resources, arguments, {"redis": REDIS_PORT}, secret="gcs-redis-password", tls=False
    )
    pod = pod_spec(GCS_REDIS, container, user_id=REDIS_USER_ID, copies=1)
    return [
        stateful_set(env, GCS_REDIS, 1, pod, own.disk_bytes),
        service(env, GCS_REDIS, GCS_REDIS, {"redis": REDIS_PORT}),
        service(env, f"{GCS_REDIS}-headless", GCS_REDIS, {"redis": REDIS_PORT}, headless=True),
    ]
